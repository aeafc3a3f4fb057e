"""The folders of the spool, and the few functions that write, move and flush anything in them."""
