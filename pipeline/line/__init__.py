"""The line: the stages that an arriving study takes, one file for each."""
