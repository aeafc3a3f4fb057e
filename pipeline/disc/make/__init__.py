"""Make a disc: from source files to an image that was read back."""
