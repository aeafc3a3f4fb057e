-- What routes test of an instance, and where each instance of a study goes that is consigned in several parts.
ALTER TABLE instance ADD COLUMN body_part VARCHAR;
ALTER TABLE instance ADD COLUMN routed_to JSON;
