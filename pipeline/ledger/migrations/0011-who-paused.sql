-- Who has paused a destination, and when: the others want to know whom to ask.
ALTER TABLE destination ADD COLUMN paused_by VARCHAR;
ALTER TABLE destination ADD COLUMN paused_at FLOAT;
