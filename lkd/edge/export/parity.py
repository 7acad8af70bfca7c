"""Comparison of a file's outputs with those of the module that it was made from."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from lkd.edge.nms import Array


class Comparison(Protocol):
    """Comparison of the outputs of a network and of the file in its place, batch by batch."""

    def compare(self, wanted: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compares outputs of the network and of the file, by name, in one batch."""

    def compare_detections(
        self, wanted: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]], side: int
    ) -> None:
        """Compares detections of both, a dict for each picture.

        `side` is the longer side of the pictures in pixels.
        """


class Parity:
    """Comparison of outputs batch by batch, which remembers the largest difference.

    Args:
        tolerance: Largest difference that passes, as a share of the largest value of the module's output in
            the same batch (or of 1, where that is smaller).

    Attributes:
        difference: The largest difference so far, as such a share.
        samples: Number of samples that were compared.

    Example:
        >>> parity = Parity(tolerance=0.001)
        >>> parity.compare({"logits": np.array([[2.0]])}, {"logits": np.array([[2.001]])})
        >>> round(parity.difference, 6)
        0.0005
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.difference, self.samples = 0.0, 0
        self.lost, self.found = 0, 0  # detections without a partner, and all of them

    def compare(self, wanted: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compares outputs by name, of one batch.

        Raises:
            ValueError: If they differ by more than the tolerance, or are no numbers.
        """
        for name, expected in wanted.items():
            if expected.shape != got[name].shape:
                raise ValueError(f"the file gives {name} {got[name].shape}, the module {expected.shape}.")
            if not np.isfinite(expected).all():
                raise ValueError(f"the module gives {name} that are not finite (NaN or infinite).")
            gap = float(np.abs(expected.astype(np.float64) - got[name]).max(initial=0.0))
            gap /= max(1.0, float(np.abs(expected).max(initial=0.0)))
            if not gap <= self.tolerance:
                raise ValueError(
                    f"the file's {name} differ from the module's by {gap:.2g} of their size, and tolerance={self.tolerance:g}."
                )
            self.difference = max(self.difference, gap)
        self.samples += len(next(iter(wanted.values())))

    def compare_detections(
        self, wanted: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]], side: int
    ) -> None:
        """Counts detections that only one side has.

        A few may be there, since rounding decides near a threshold.

        Args:
            wanted: Detections of the module, a dict for each picture.
            got: Detections of the file.
            side: The longer side of the pictures in pixels, by which differences of boxes are divided.
        """
        for one, other in zip(wanted, got, strict=True):
            self.found += len(one["scores"]) + len(other["scores"])
            if not len(one["scores"]) or not len(other["scores"]):
                self.lost += len(one["scores"]) + len(other["scores"])
                continue
            boxes = np.abs(one["boxes"][:, None] - other["boxes"][None]).max(2) / side
            scores = np.abs(one["scores"][:, None] - other["scores"][None])
            gap = np.maximum(boxes, scores)
            gap[one["labels"][:, None] != other["labels"][None]] = np.inf
            near = gap <= self.tolerance
            self.lost += int((~near.any(1)).sum() + (~near.any(0)).sum())
            if near.any():
                self.difference = max(self.difference, float(gap.min(1)[near.any(1)].max()))
        self.samples += len(wanted)

    def check(self) -> None:
        """Raises ValueError if over a hundredth of the detections lack a partner, or nothing was compared."""
        if not self.samples:
            raise ValueError("nothing was compared: the test data are empty.")
        if self.lost > 0.01 * self.found:
            raise ValueError(
                f"{self.lost} of {self.found} detections of module and file have no partner in the other within "
                f"tolerance={self.tolerance:g}."
            )
