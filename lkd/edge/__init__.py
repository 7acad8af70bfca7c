"""Students as files that a camera can run: `Exported` reads and runs one without torch.

`to_openvino` converts it.
"""

from lkd.edge.exported import Exported
from lkd.edge.openvino_file import to_openvino

__all__ = ["Exported", "to_openvino"]
