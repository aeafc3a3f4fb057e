"""The commands of `storestow`: `*_commands.py` declare those of one subject."""
