"""Frames of cameras with boxes: data sets, and what every detector's data share."""
