-- Which instances of a study are on which of its discs: it was remembered in files beside the discs before.
CREATE TABLE disc (
    id VARCHAR NOT NULL PRIMARY KEY,
    delivery INTEGER NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    volume_id VARCHAR NOT NULL,
    size BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    made_at FLOAT NOT NULL,
    offered_at FLOAT
);
CREATE INDEX ix_disc_delivery ON disc (delivery);
CREATE TABLE on_disc (
    disc VARCHAR NOT NULL REFERENCES disc (id) ON DELETE CASCADE,
    delivery INTEGER NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,
    instance INTEGER NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
    left_out TEXT,
    PRIMARY KEY (disc, delivery, instance)
);
CREATE INDEX ix_on_disc_instance ON on_disc (instance);
