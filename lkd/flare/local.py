"""Where a site's processes find what only this site knows."""

LOCAL = "LKD_CAMERA"
"""Environment variable with the path of the local YAML."""
