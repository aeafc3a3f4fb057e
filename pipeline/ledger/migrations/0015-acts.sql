-- What people did on the operator's page: who, when, why.
CREATE TABLE act (
    id INTEGER NOT NULL PRIMARY KEY,
    at FLOAT NOT NULL,
    "by" VARCHAR NOT NULL,
    what VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    reason TEXT
);
CREATE INDEX ix_act_at ON act (at);
CREATE INDEX ix_act_subject ON act (subject);
-- The newest arrivals are asked for by time.
CREATE INDEX ix_arrival_admitted_at ON arrival (admitted_at);
