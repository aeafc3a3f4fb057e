"""The process pool and signals."""
