"""encode = "none": every instance leaves in the transfer syntax it came in."""
