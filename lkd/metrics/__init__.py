"""Metrics and tables of what a run reports."""

from lkd.metrics.detection import DetectionTable

__all__ = ["DetectionTable"]
