"""Recorded studies, and the page that shows them all: `python cli.py leaderboard`."""

from lkd.leaderboard.origin import Origin, origin
from lkd.leaderboard.study import Study, read_study, write_study

__all__ = ["Origin", "Study", "origin", "read_study", "write_study"]
