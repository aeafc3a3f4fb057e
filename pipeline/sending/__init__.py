"""Send files from this machine's disk to a destination (`storestow send`), as an order that retrieves nothing."""
