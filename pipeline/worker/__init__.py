"""The worker: the loop that does what is due, and what is deleted by age."""
