-- Every attempt of a delivery: when, by which machine, and what was answered.
CREATE TABLE attempt (
    delivery INTEGER NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    began_at FLOAT NOT NULL,
    ended_at FLOAT,
    state VARCHAR NOT NULL,
    reason TEXT,
    node VARCHAR NOT NULL,
    instances INTEGER,
    arrived INTEGER,
    verified INTEGER,
    codes VARCHAR,
    PRIMARY KEY (delivery, number)
);
