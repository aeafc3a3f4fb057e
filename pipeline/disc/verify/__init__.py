"""Verify a disc, ours or another's: its DICOMDIR, its objects, its patients."""
