"""The labeled boxes of one picture in any format: each is checked, and what is dropped is counted."""

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from lkd.datamodules.io.left_out import LeftOut

TOLERANCE = 0.01  # how far boxes may reach beyond the edge, as a share of the side; as in Ultralytics
ROUNDING = 1e-4  # what numbers of four digits lose in the conversion to corners: no reason to warn
BEYOND = "parts of boxes beyond the picture's edge"


class LabeledBoxes:
    """Collector of boxes that drops and counts boxes that are repeated, without area or of other classes.

    Boxes whose middle is in the picture are clipped to it and counted: objects cut by the edge may be labeled
    whole.

    Args:
        left_out: counter of what is dropped.

    Example:
        >>> found = LabeledBoxes(LeftOut())
        >>> found.add((0.5, 0.5, 1.25, 0.75), 2, "car", "a.txt, line 1")
        >>> found.add((0.5, 0.5, 0.5, 0.75), 2, "car", "a.txt, line 2")
        >>> found.tensors()
        (tensor([[0.5000, 0.5000, 1.0000, 0.7500]]), tensor([2]))
        >>> print(found.left_out)
        1 parts of boxes beyond the picture's edge (such as a.txt, line 1), 1 boxes without area (such as a.txt, line 2)
    """

    def __init__(self, left_out: LeftOut) -> None:
        self.left_out = left_out
        self._boxes: list[list[float]] = []
        self._labels: list[int] = []
        self._rows: set[Hashable] = set()

    def add(
        self, box: Sequence[float], label: int | None, name: str, place: str, row: Hashable = None
    ) -> None:
        """Checks one box and keeps it, or counts why it was dropped.

        Args:
            box: x1, y1, x2, y2 as shares of the picture's width and height.
            label: the class here; `None` if the class is not used.
            name: the class in the file, for the count.
            place: file and line, for messages.
            row: all that the file says of the box, by which repeated boxes are found. Default: name and box.

        Raises:
            ValueError: for a box that is not finite, of negative size, or not in the picture; the message
                begins with `place`.
        """
        check_box(box, place)
        row = (name, *box) if row is None else row
        x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
        if row in self._rows:
            self.left_out.add("repeated boxes", place)
        elif label is None:
            self.left_out.classes[name] += 1
        elif x2 <= x1 or y2 <= y1:
            self.left_out.add("boxes without area", place)
        else:
            if hangs_over(box):
                self.left_out.add(BEYOND, place)
            self._boxes.append([x1, y1, x2, y2])
            self._labels.append(label)
        self._rows.add(row)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Returns normalized boxes (N, 4) float32 xyxy in [0, 1], and labels (N,) int64."""
        boxes = torch.tensor(self._boxes, dtype=torch.float32).reshape(-1, 4)
        return boxes, torch.tensor(self._labels, dtype=torch.int64)


def hangs_over(box: Sequence[float]) -> bool:
    """Returns whether a box (shares of the picture) reaches beyond the edge by more than rounding."""
    return min(box) < -ROUNDING or max(box) > 1 + ROUNDING


def check_box(box: Sequence[float], place: str) -> None:
    """Checks a box x1, y1, x2, y2 (shares of the picture); raises ValueError if no object can have it.

    As in Ultralytics, the middle must lie in the picture and the box be no larger than it, each within
    `TOLERANCE`. Boxes in pixels, or of a picture of another size, rarely pass.
    """
    if not all(map(math.isfinite, box)):
        raise ValueError(f"{place}: a number is not finite.")
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        raise ValueError(f"{place}: the box has a negative width or height.")
    middle, size = ((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1)
    margin = TOLERANCE + 1e-6  # what a number loses in the conversion to corners and back
    if min(middle) < -margin or max(middle) > 1 + margin or max(size) > 1 + 2 * margin:
        raise ValueError(f"{place}: the box lies outside the picture or is larger than it.")
