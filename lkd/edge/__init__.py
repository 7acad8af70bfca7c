"""What leaves lkd: a student as a file that a camera can run. `Exported` reads and runs one, without torch."""

from lkd.edge.exported import Exported

__all__ = ["Exported"]
