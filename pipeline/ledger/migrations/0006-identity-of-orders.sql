-- What the sources of an order said of its patient, without values, and why a person let a difference through.
ALTER TABLE orders ADD COLUMN identity JSON;
ALTER TABLE orders ADD COLUMN identity_allowed TEXT;
-- Several patients in one `send` are for a person to allow.
ALTER TABLE orders ADD COLUMN several_patients BOOLEAN NOT NULL DEFAULT FALSE;
