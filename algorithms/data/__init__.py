"""Data sets as arrays of images and labels: read from packages, archives, folders; checked; divided among clients."""
