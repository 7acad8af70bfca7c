"""`compress`: a trained student becomes smaller and faster, step by step, each measured as the file that it ends as."""
