"""The line an arriving study takes, a stage a file."""
