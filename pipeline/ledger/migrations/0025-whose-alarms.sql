-- An alarm about one node of a cluster is told by that node; any other by the one that claims it first.
ALTER TABLE told_alarm ADD COLUMN node VARCHAR;
ALTER TABLE told_alarm ADD COLUMN claimed_until FLOAT;
