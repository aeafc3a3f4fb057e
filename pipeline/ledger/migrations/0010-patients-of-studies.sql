-- Whose each study of the line is: keyed hashes, by which another patient's images under its UID are told.
CREATE TABLE study_patient (
    scope VARCHAR NOT NULL,
    study_instance_uid VARCHAR NOT NULL,
    identifier VARCHAR NOT NULL,
    issuer VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    birth_date VARCHAR NOT NULL,
    is_first BOOLEAN NOT NULL,
    arrival VARCHAR NOT NULL,
    reason TEXT,
    at FLOAT NOT NULL,
    PRIMARY KEY (scope, study_instance_uid, identifier, issuer)
);
CREATE UNIQUE INDEX one_first_patient ON study_patient (scope, study_instance_uid) WHERE is_first;
