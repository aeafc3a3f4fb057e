-- Why an instance is set aside is told by a code as well: what is to be done about it depends on that.
ALTER TABLE instance ADD COLUMN code VARCHAR;
