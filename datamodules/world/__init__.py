"""Car parks drawn by a program: cameras, weather, and the exact box of every car."""

from lkd.datamodules.world.view import number
from lkd.datamodules.world.write import VIEWS, write_world

__all__ = ["VIEWS", "number", "write_world"]
