"""The folders of the spool, and the few functions that write, move and flush files in them."""
