"""The process pool with its limits, signals, and messages to the service manager."""
