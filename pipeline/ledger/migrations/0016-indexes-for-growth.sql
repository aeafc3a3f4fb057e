-- What open sends and the instances that await a person's word are looked up by, however much the line has brought.
CREATE INDEX outside_the_line ON instance (scope) WHERE scope <> 'line';
CREATE INDEX not_compared ON receipt (instance) WHERE state = 'present' AND NOT verified;
