-- Why the file of an order does not hold an instance is told by a code; its sentence was read by its words before.
ALTER TABLE receipt ADD COLUMN left_out VARCHAR;
UPDATE receipt SET left_out = CASE
    WHEN REPLACE(message, 'SOP class', '') <> message THEN 'kind'
    WHEN REPLACE(message, 'a film, which a ', '') <> message THEN 'film'
    WHEN REPLACE(message, '4 GiB or larger', '') <> message
        OR REPLACE(message, 'too large for one file', '') <> message
        OR REPLACE(message, 'which fit no element', '') <> message THEN 'large'
    WHEN REPLACE(message, 'truncated', '') <> message
        OR REPLACE(message, 'not a DICOM file', '') <> message
        OR REPLACE(message, 'file is empty', '') <> message
        OR REPLACE(message, 'cannot be read', '') <> message
        OR REPLACE(message, 'is missing', '') <> message
        OR REPLACE(message, 'not valid', '') <> message
        OR REPLACE(message, 'missing or absurd', '') <> message
        OR REPLACE(message, 'it cannot be decoded: ', '') <> message THEN 'damaged'
    WHEN REPLACE(message, 'decode', '') <> message
        OR REPLACE(message, 'compressed pixels', '') <> message
        OR REPLACE(message, 'its pixels are not compressed', '') <> message THEN 'compressed'
    WHEN REPLACE(message, 'another file of the same UIDs', '') <> message
        OR REPLACE(message, 'another object', '') <> message THEN 'other-content'
    WHEN REPLACE(message, 'a fault of this program', '') <> message
        OR REPLACE(message, 'the process that ', '') <> message
        OR REPLACE(message, 'took longer than', '') <> message THEN 'not-converted'
    ELSE 'other'
END
WHERE state = 'warned' AND SUBSTR(message, 1, 39) = 'left out, and listed on what was made: ';
UPDATE receipt SET message = SUBSTR(message, 40) WHERE left_out IS NOT NULL;
