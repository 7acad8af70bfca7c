"""What leaves lkd: a student as a file that a camera can run. `Exported` reads and runs one, without torch; `to_openvino` makes another of it."""

from lkd.edge.exported import Exported
from lkd.edge.openvino_file import to_openvino

__all__ = ["Exported", "to_openvino"]
