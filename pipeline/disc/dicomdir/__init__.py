"""The DICOMDIR: its directory records, and how they are written and read back (PS3.10 8, PS3.3 F)."""
