"""Motion sensors that people carry: recordings, windows, and people as clients."""
