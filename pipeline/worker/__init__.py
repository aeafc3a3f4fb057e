"""The worker: the loop that finds and starts what is due, and the deletion of what is old."""
