"""Attributes of a data set as bytes and as text: what coercion reads, writes and records, without guessing."""
