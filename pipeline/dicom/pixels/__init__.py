"""Pixel Data: the layout of native pixels, the header of a codestream, and how frames replace pixels."""
