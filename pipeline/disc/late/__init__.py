"""Discs of studies to which instances were added later."""
