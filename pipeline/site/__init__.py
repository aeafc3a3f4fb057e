"""One site: its configuration as a whole, and the objects its stages share."""
