-- What a node has received and not admitted, so that others do not take a study for complete that still comes in there.
ALTER TABLE node ADD COLUMN door JSON NOT NULL DEFAULT '[]';
