"""Patches of a car park as samples of several modalities: sensors' pictures, a small one, the context."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.detection.frames import frame_columns
from lkd.datamodules.io.pictures import read_image
from lkd.datamodules.modalities.slot_context import context_of
from lkd.datamodules.samples.metadata import GROUP
from lkd.modalities import PRESENT
from lkd.slot_labels import Patch

log = logging.getLogger(__name__)
SENSORS = {
    "thermal": "PATCHES_THERMAL",
    "depth": "PATCHES_DEPTH",
}  # folders beside PATCHES, with PNG files of the same names
MODALITIES = ("rgb", "gray", *SENSORS, "context")


def patch_columns(patches: Sequence[Patch], whole_days: bool = False) -> dict[str, list[Any]]:
    """Returns label, slot, camera, weather, day and time of every patch.

    With `whole_days` the day is also its "group".
    """
    labels, slots = ([getattr(patch, name) for patch in patches] for name in ("label", "slot"))
    columns = {"label": labels, "slot": slots, **frame_columns(patches)}
    return columns | {GROUP: columns["day"]} if whole_days else columns


class ModalPatches(Dataset[tuple[dict[str, Any], Tensor]]):
    """Samples (x, y), x a dict of modalities, y () int64: an index gives one, a list of indices a batch.

    - "rgb" (3, S, S) in [0, 1];
    - "gray" (1, G, G) in [0, 1], the luma of the same picture at few pixels, which shows no faces;
    - "thermal" and "depth" (1, S, S) in [0, 1], where there are such files beside the patches;
    - "context" (F,), see `lkd.datamodules.modalities.slot_context.context_of`.

    A patch that lacks a sensor's file lacks the modality (`x["present"]`); a patch that lacks all chosen
    modalities is left out. Files of other modalities are not opened.

    Args:
        folder: folder PATCHES.
        patches: the patches.
        modalities: some of `MODALITIES`.
        size: side S in pixels.
        gray_size: side G in pixels.
        context: fields of the context.
        keep: whether to keep what was read in memory (a byte for each pixel).
        whole_days: whether to give the column "group", the day.

    Raises:
        FileNotFoundError: if a sensor has no file at all.
    """

    def __init__(
        self,
        folder: Path,
        patches: Sequence[Patch],
        modalities: Sequence[str],
        size: int,
        gray_size: int,
        context: Sequence[str],
        keep: bool = False,
        whole_days: bool = False,
    ) -> None:
        self.folder, self.patches, self.modalities = folder, list(patches), list(modalities)
        self.size, self.gray_size, self.keep = size, gray_size, keep
        self._kept: dict[int, dict[str, Tensor]] = {}
        there = {name: self._files(name) for name in modalities if name in SENSORS and self.patches}
        if len(there) == len(modalities):
            something = np.any(list(there.values()), axis=0)
            if lost := int((~something).sum()):
                log.warning("left out %d patches that have no %s", lost, " nor ".join(there))
            self.patches = [patch for patch, some in zip(self.patches, something, strict=True) if some]
            there = {name: flags[something] for name, flags in there.items()}
        lacking = {name: flags for name, flags in there.items() if not flags.all()}
        self.present: dict[str, np.ndarray] | None = lacking or None
        rows = [context_of(patch, context) for patch in self.patches] if "context" in modalities else []
        self.context = torch.tensor(rows)
        self.columns = patch_columns(self.patches, whole_days)
        self.labels = torch.tensor(self.columns["label"])

    def _files(self, name: str) -> np.ndarray:
        """Returns which patches have a sensor's file (N,)."""
        flags = np.array([self._path(name, patch).is_file() for patch in self.patches])
        if not (self.folder.parent / SENSORS[name]).is_dir():
            raise FileNotFoundError(
                f"modality {name!r}: {self.folder.parent} has no file such as {SENSORS[name]}/"
                f"{Path(self.patches[0].path).with_suffix('.png')}; the rendered world can draw them, CNRPark-EXT has none."
            )
        if lost := int((~flags).sum()):
            log.warning("%d of %d patches have no %s picture", lost, len(flags), name)
        return flags

    def __len__(self) -> int:
        """Returns the number of patches."""
        return len(self.patches)

    def __getitem__(self, index: int | list[int]) -> tuple[dict[str, Any], Tensor]:
        """Returns one sample for an index, or one batch for a list."""
        rows = index if isinstance(index, list) else [index]
        pictures = [self._pictures(row) for row in rows]
        x: dict[str, Any] = {}
        for name in self.modalities:
            if name == "context":
                x[name] = self.context[rows]
            else:
                x[name] = F.to_dtype(torch.stack([found[name] for found in pictures]), scale=True)
        if self.present is not None:
            x[PRESENT] = {name: torch.from_numpy(flags[rows]) for name, flags in self.present.items()}
        if isinstance(index, list):
            return x, self.labels[rows]
        one = {name: value[0] for name, value in x.items() if name != PRESENT}
        if self.present is not None:
            one[PRESENT] = {name: flags[0] for name, flags in x[PRESENT].items()}
        return one, self.labels[index]

    def _pictures(self, row: int) -> dict[str, Tensor]:
        """Reads the pictures (C, side, side) uint8 by modality; only once if they are kept."""
        if row in self._kept:
            return self._kept[row]
        patch, found = self.patches[row], {}
        sides = {n: s for n, s in (("rgb", self.size), ("gray", self.gray_size)) if n in self.modalities}
        if sides:  # one file for both
            colors = read_image(self.folder / patch.path)
            found = {n: F.resize(colors, [side, side], antialias=True) for n, side in sides.items()}
        if "gray" in found:
            luma = F.rgb_to_grayscale(found["gray"].float())  # integers would be rounded down
            found["gray"] = luma.round().to(torch.uint8)
        for name in SENSORS:
            if name in self.modalities:
                found[name] = self._sensor(name, row)
        if self.keep:
            self._kept[row] = found
        return found

    def _sensor(self, name: str, row: int) -> Tensor:
        """Reads a sensor's picture (1, S, S) uint8, or zeros where there is none."""
        if self.present is not None and name in self.present and not self.present[name][row]:
            return torch.zeros(1, self.size, self.size, dtype=torch.uint8)
        return F.resize(read_image(self._path(name, self.patches[row]), "L"), [self.size] * 2, antialias=True)

    def _path(self, name: str, patch: Patch) -> Path:
        return (self.folder.parent / SENSORS[name] / patch.path).with_suffix(".png")
