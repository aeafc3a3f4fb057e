"""What a person reads on a disc: README.TXT, INDEX.HTM, thumbnails, and the printed summary."""
