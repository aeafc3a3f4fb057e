-- The worker's loop says every few seconds that it lives: a hung worker is told from a busy one.
CREATE TABLE heartbeat (
    name VARCHAR NOT NULL PRIMARY KEY,
    started_at FLOAT NOT NULL,
    beat_at FLOAT NOT NULL
);
