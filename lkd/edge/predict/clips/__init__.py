"""Clips and live streams, read and written by PyAV."""

from lkd.edge.predict.clips.clip_writer import ClipWriter
from lkd.edge.predict.clips.video import VideoSource

__all__ = ["ClipWriter", "VideoSource"]
