"""One site: its configuration as a whole, and what it works with."""
