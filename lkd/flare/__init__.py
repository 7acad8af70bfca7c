"""What runs inside of NVFlare's own processes, which need neither torch nor Lightning for it."""
