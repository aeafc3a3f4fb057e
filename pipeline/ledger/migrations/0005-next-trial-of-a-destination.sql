-- When the next trial of a destination that does not answer is due: who waits for it can be told until when.
ALTER TABLE destination ADD COLUMN try_at FLOAT;
