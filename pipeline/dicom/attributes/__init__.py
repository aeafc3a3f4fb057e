"""A data set's attributes as bytes and text: what coercion reads, writes and records, guessing nothing."""
