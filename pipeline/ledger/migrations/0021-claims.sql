-- Who works at what, so that no two workers of one ledger do the same; and which delivery tries a destination again.
ALTER TABLE delivery ADD COLUMN claim VARCHAR;
ALTER TABLE delivery ADD COLUMN worker VARCHAR;
ALTER TABLE retrieval ADD COLUMN claim VARCHAR;
ALTER TABLE retrieval ADD COLUMN worker VARCHAR;
ALTER TABLE destination ADD COLUMN trial INTEGER;
CREATE TABLE study_claim (
    receiver VARCHAR NOT NULL,
    study_instance_uid VARCHAR NOT NULL,
    claim VARCHAR NOT NULL,
    worker VARCHAR NOT NULL,
    PRIMARY KEY (receiver, study_instance_uid)
);
