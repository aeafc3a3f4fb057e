-- The machines whose workers use this ledger, and when each reported last.
CREATE TABLE node (
    name VARCHAR NOT NULL,
    worker VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    seen FLOAT NOT NULL,
    draining BOOLEAN NOT NULL,
    receivers JSON NOT NULL,
    at_the_door INTEGER NOT NULL,
    site_hash VARCHAR NOT NULL,
    lost_at FLOAT,
    PRIMARY KEY (name)
);
