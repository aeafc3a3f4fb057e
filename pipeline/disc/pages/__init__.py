"""The texts on a disc for a person: README.TXT, INDEX.HTM, thumbnails, and the printed summary."""
