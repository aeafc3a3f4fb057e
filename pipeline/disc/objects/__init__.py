"""The objects on a disc: what may be on one, and in which form."""
