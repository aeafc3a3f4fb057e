"""The objects on a disc: which may be on it, and in which form."""
