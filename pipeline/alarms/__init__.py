"""Alarms: what is wrong now, who is told of it, and by which channel."""
