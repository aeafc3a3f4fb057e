"""The worker: the loop that does what is due, and deletion by age."""
