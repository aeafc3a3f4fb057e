"""Verify a disc, ours or another's."""
