"""The media formats: ISO 9660 images, folders, ZIP archives."""
