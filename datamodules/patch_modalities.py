"""Patches of a car park as samples of several modalities: pictures of several sensors, a poorer picture, and the context."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.cnrpark_layout import Patch
from lkd.datamodules.context import context_of
from lkd.datamodules.frames import frame_columns, read_image
from lkd.modalities import PRESENT

log = logging.getLogger(__name__)
SENSORS = {
    "thermal": "PATCHES_THERMAL",
    "depth": "PATCHES_DEPTH",
}  # beside PATCHES, PNG files of the same names
MODALITIES = ("rgb", "gray", *SENSORS, "context")


class ModalPatches(Dataset[tuple[dict[str, Any], Tensor]]):
    """Samples (x, y), x a dict of modalities, y () int64: an index gives one, a list of indices a batch.

    - "rgb" (3, S, S) in [0, 1];
    - "gray" (1, G, G) in [0, 1], the luma of the same picture at few pixels: a camera that shows nobody's face;
    - "thermal" and "depth" (1, S, S) in [0, 1], where there are such files beside the patches;
    - "context" (F,), see `lkd.datamodules.context.context_of`.

    A patch that lacks a sensor's file lacks the modality (`x["present"]`); the files of modalities that are not asked for are
    not opened.

    Args:
        folder: PATCHES.
        patches: which.
        modalities: of `MODALITIES`.
        size: S.
        gray_size: G.
        context: fields of the context.
        keep: hold what was read in memory (a byte a pixel).

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
    ) -> None:
        self.folder, self.patches, self.modalities = folder, list(patches), list(modalities)
        self.size, self.gray_size, self.keep = size, gray_size, keep
        self._kept: dict[tuple[str, int], Tensor] = {}
        rows = [context_of(patch, context) for patch in self.patches] if "context" in modalities else []
        self.context = torch.tensor(rows)
        self.labels = torch.tensor([patch.label for patch in self.patches])
        there = {name: self._files(name) for name in modalities if name in SENSORS and self.patches}
        lacking = {name: flags for name, flags in there.items() if not flags.all()}
        self.present: dict[str, np.ndarray] | None = lacking or None

    def _files(self, name: str) -> np.ndarray:
        """Which patches have a sensor's file (N,)."""
        flags = np.array([self._path(name, patch).is_file() for patch in self.patches])
        if not flags.any():
            raise FileNotFoundError(
                f"modality {name!r}: {self.folder.parent} has no file such as {SENSORS[name]}/"
                f"{Path(self.patches[0].path).with_suffix('.png')}; the rendered world can draw them, CNRPark-EXT has none."
            )
        if lost := int((~flags).sum()):
            log.warning("%d of %d patches have no %s picture", lost, len(flags), name)
        return flags

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Label, slot, camera, weather, day and time of every patch."""
        slots = [patch.slot for patch in self.patches]
        return {"label": self.labels.tolist(), "slot": slots, **frame_columns(self.patches)}

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patches)

    def __getitem__(self, index: int | list[int]) -> tuple[dict[str, Any], Tensor]:
        """One sample or one batch."""
        rows = index if isinstance(index, list) else [index]
        x: dict[str, Any] = {}
        for name in self.modalities:
            if name == "context":
                x[name] = self.context[rows]
            else:
                x[name] = F.to_dtype(torch.stack([self._pixels(name, row) for row in rows]), scale=True)
        if self.present is not None:
            x[PRESENT] = {name: torch.from_numpy(flags[rows]) for name, flags in self.present.items()}
        if isinstance(index, list):
            return x, self.labels[rows]
        one = {name: value[0] for name, value in x.items() if name != PRESENT}
        if self.present is not None:
            one[PRESENT] = {name: flags[0] for name, flags in x[PRESENT].items()}
        return one, self.labels[index]

    def _pixels(self, name: str, row: int) -> Tensor:
        """A picture (C, side, side) uint8, once read and then kept if asked to."""
        if (name, row) not in self._kept:
            for found, pixels in self._read(name, row).items():
                self._kept[found, row] = pixels
        return self._kept[name, row] if self.keep else self._kept.pop((name, row))

    def _read(self, name: str, row: int) -> dict[str, Tensor]:
        """What a file holds: of the picture in colours both modalities, if both are asked for."""
        patch = self.patches[row]
        if name in SENSORS:
            if self.present is not None and name in self.present and not self.present[name][row]:
                return {name: torch.zeros(1, self.size, self.size, dtype=torch.uint8)}
            with Image.open(self._path(name, patch)) as image:
                grey = torch.from_numpy(np.array(image.convert("L")))[None]
            return {name: F.resize(grey, [self.size] * 2, antialias=True)}
        colours, sizes = read_image(self.folder / patch.path), {"rgb": self.size, "gray": self.gray_size}
        found = {n: F.resize(colours, [s, s], antialias=True) for n, s in sizes.items() if n in self.modalities}
        return {n: F.rgb_to_grayscale(p) if n == "gray" else p for n, p in found.items()}

    def _path(self, name: str, patch: Patch) -> Path:
        return (self.folder.parent / SENSORS[name] / patch.path).with_suffix(".png")
