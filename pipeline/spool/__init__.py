"""The folders, and the few ways anything in them is written, moved, made durable."""
