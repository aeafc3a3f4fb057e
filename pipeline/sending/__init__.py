"""Files from this machine's disk to a destination (`storestow send`): an order that retrieves nothing."""
