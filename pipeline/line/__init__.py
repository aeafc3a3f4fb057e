"""The line: the stages an arriving study takes, one file a stage."""
