"""Files: found, downloaded, unpacked, read; and what a reader passes over."""
