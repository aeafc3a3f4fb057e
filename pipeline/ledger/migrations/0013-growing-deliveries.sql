-- A delivery is attempted while later instances of its study are still prepared: it says so until the last is in it.
ALTER TABLE delivery ADD COLUMN growing BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX growing_deliveries ON delivery (growing) WHERE growing;
