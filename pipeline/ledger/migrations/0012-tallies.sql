-- Counts by the hour, in the transaction of what they count: metrics, alarms and pictures read these few rows.
CREATE TABLE tally (
    hour INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    times BIGINT NOT NULL,
    instances BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    seconds FLOAT NOT NULL,
    last_at FLOAT NOT NULL,
    PRIMARY KEY (hour, kind, name, detail)
);
-- How things stood every few minutes.
CREATE TABLE sample (
    at FLOAT NOT NULL,
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    value FLOAT NOT NULL,
    PRIMARY KEY (at, kind, name)
);
-- Which alarms somebody was told of.
CREATE TABLE told_alarm (
    key VARCHAR NOT NULL PRIMARY KEY,
    since FLOAT NOT NULL,
    told_at FLOAT NOT NULL,
    ended_at FLOAT
);
