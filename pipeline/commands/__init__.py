"""The commands of `storestow`, a command a file."""
