"""Make a disc: from files to an image that was read back."""
