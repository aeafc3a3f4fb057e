-- Number of Frames of each instance: some archives count frames where others count instances.
ALTER TABLE instance ADD COLUMN frames INTEGER;
