"""Client-level differential privacy: what both sides know of it."""
