-- What is received again asks the destinations whether they still have it: deliveries that such a request has opened.
ALTER TABLE delivery ADD COLUMN requested BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE receipt ADD COLUMN asked_by INTEGER REFERENCES instance (id);
CREATE INDEX ix_receipt_asked_by ON receipt (asked_by);
