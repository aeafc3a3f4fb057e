"""Pixel Data: how native pixels lie, what a codestream says, and how encoded frames take their place."""
