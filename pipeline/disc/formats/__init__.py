"""What holds a disc: ISO 9660 images, folders, ZIP archives."""
