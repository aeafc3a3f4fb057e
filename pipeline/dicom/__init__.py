"""Data sets: reading, comparing, changing and encoding them; nothing here knows a study's way."""
