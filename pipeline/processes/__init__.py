"""The process pool with its limits, the table of jobs, signals, and messages to the service manager."""
