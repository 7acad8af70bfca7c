"""Files: found, downloaded, unpacked and read; and counts of what a reader skips."""
