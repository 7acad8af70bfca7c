"""CNRPark-EXT as classification: is the slot in this patch busy?"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from lkd.checks import expect
from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule
from lkd.datamodules.detection.cnrpark_files import REMOTES
from lkd.datamodules.detection.cnrpark_layout import LABEL_FILES, official_list
from lkd.datamodules.io.fetched import require
from lkd.datamodules.io.files import find
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.io.pictures import read_image
from lkd.datamodules.modalities.patch_modalities import MODALITIES, ModalPatches, patch_columns
from lkd.datamodules.modalities.slot_context import check_fields
from lkd.datamodules.samples.filters import select
from lkd.datamodules.samples.splits import Splits, by_day, by_time, pick
from lkd.slot_labels import Patch, read_patches

log = logging.getLogger(__name__)
SMALL = 2048  # bytes: an all-black 150x150 JPEG has about 1,000, nearly all others have more than this


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Patches read from disk: an index gives (x (3, S, S), y ()), a list of indices gives a batch."""

    def __init__(self, folder: Path, patches: Sequence[Patch], size: int, whole_days: bool = False) -> None:
        self.folder, self.patches, self.size, self.whole_days = folder, list(patches), size, whole_days

    @property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of each patch, by name: the columns of `patch_columns`."""
        return patch_columns(self.patches, self.whole_days)

    def __len__(self) -> int:
        """Returns the number of patches."""
        return len(self.patches)

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, Tensor]:
        """Returns one sample for an index, or one batch for a list."""
        if isinstance(index, list):
            xs, ys = zip(*(self[one] for one in index), strict=True)
            return torch.stack(xs), torch.stack(ys)
        patch = self.patches[index]
        image = F.resize(read_image(self.folder / patch.path), [self.size, self.size], antialias=True)
        return F.to_dtype(image, torch.float32, scale=True), torch.tensor(patch.label)


def is_black(path: Path) -> bool:
    """Returns whether a patch is all black.

    The archives hold some (39 are reported) with contradicting labels.
    """
    try:
        if path.stat().st_size > SMALL:  # saves opening 145,000 files
            return False
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the list of labels names the patch {path}, which is not there: unpack all of the patches, or select others."
        ) from error
    return bool(read_image(path, "L").max() <= 2)


class CNRParkPatches(ClassificationDataModule):
    """Batches (x, y): x float (B, 3, S, S) in [0, 1], y int64 (B,), 0 free and 1 busy.

    With `modalities`, x is a dict of them, as multimodal clients take it (see
    `lkd.datamodules.modalities.patch_modalities.ModalPatches`). "context" alone needs the list of labels and
    no pictures, so black patches stay. The time of day alone predicts occupancy to some degree, so split by
    day in that case and compare with a model of "context" alone. When split by day, the column "group" is the
    day, which neither a public share nor a client's own split divides.

    Args:
        root: folder that holds `PATCHES/` and the lists of labels.
        cameras: cameras to train and validate on, "C1".."C9"; `None` for all.
        test_cameras: cameras to test on; `None` for the same.
        weathers: "sunny", "overcast", "rainy"; `None` for all.
        days: dates or ranges, see `select`; `None` for all.
        split: "by_time" takes `fractions` of every camera's times; "by_day" takes `fractions` of the days,
            the same for all cameras; "official" takes the data set's lists train, val, test.
        exclude_shared_slots: leave out of the test data what another training camera looks at: 114 of the 164
            slots are seen by several cameras, so a test on another camera may show cars that were trained on.
        patch_size: side S in pixels.
        download: fetch what is missing.
        modalities: of "rgb", "gray", "thermal", "depth" (which drawn worlds have) and "context"; `None` for
            plain pictures.
        gray_size: side of "gray" in pixels.
        context: fields of "context": "weather", "hour", "weekday", "camera"; `None` for all.
        keep_in_memory: read every picture once (with `modalities`; in each worker).
        **kwargs: see `ClassificationDataModule`.

    Raises:
        FileNotFoundError: if the patches or lists are missing.
        ValueError: for unknown names, or a selection that leaves nothing.
    """

    def __init__(
        self,
        root: str,
        cameras: list[str] | None = None,
        test_cameras: list[str] | None = None,
        weathers: list[str] | None = None,
        days: list[str] | None = None,
        split: Literal["by_time", "by_day", "official"] = "by_time",
        exclude_shared_slots: bool = False,
        patch_size: int = 150,
        download: bool = False,
        modalities: list[str] | None = None,
        gray_size: int = 32,
        context: list[str] | None = None,
        keep_in_memory: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        expect(split=split, among=("by_time", "by_day", "official"))
        expect(patch_size=patch_size, gray_size=gray_size, ge=1, why="it is in pixels")
        chosen = None if modalities is None else pick("modalities", modalities, MODALITIES)
        self.modalities = chosen and [name for name in MODALITIES if name in chosen]
        self.gray_size, self.context, self.keep_in_memory = gray_size, check_fields(context), keep_in_memory
        self.root, self.split, self.patch_size, self.download = Path(root), split, patch_size, download
        self.wanted_cameras, self.test_cameras = cameras, test_cameras
        self.weathers, self.days, self.exclude_shared_slots = weathers, days, exclude_shared_slots
        self.cameras: list[str] = []
        self.splits, self._left_out = Splits([], [], []), LeftOut()

    def prepare_data(self) -> None:
        """Checks that everything is there, or downloads it."""
        if self._pictures:
            require(self.root, ["PATCHES"], REMOTES["patches"], self.download)
        if self.split == "official":
            require(self.root, official_list("train"), REMOTES["splits"], self.download)
        else:
            require(self.root, LABEL_FILES, REMOTES["labels"], self.download)

    def setup(self, stage: str | None = None) -> None:
        """Reads the lists, selects and splits, and drops black patches and leaking slots, which it counts."""
        if self.split == "official":
            parts = Splits(*(self._read(official_list(part)) for part in Splits._fields))
        else:
            divide = by_day if self.split == "by_day" else by_time
            parts = divide(self._read(LABEL_FILES), self.fractions)
        available = {patch.camera for part in parts for patch in part}
        self.cameras = pick("cameras", self.wanted_cameras, available)
        tested = (
            self.cameras if self.test_cameras is None else pick("test_cameras", self.test_cameras, available)
        )
        train, val = ([patch for patch in part if patch.camera in self.cameras] for part in parts[:2])
        test = [patch for patch in parts.test if patch.camera in tested]
        if self.exclude_shared_slots:
            viewers: dict[int, set[str]] = {}  # of every slot: the cameras that train on it
            for patch in train:
                viewers.setdefault(patch.slot, set()).add(patch.camera)
            kept = [patch for patch in test if viewers.get(patch.slot, set()) <= {patch.camera}]
            log.info("left out %d of %d test patches: shared slots", len(test) - len(kept), len(test))
            test = kept
        self.splits = Splits(*(self._without_black(part) for part in (train, val, test)))
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        for name, patches in self.splits._asdict().items():
            self.datasets[name] = self._dataset(patches)

    def _dataset(self, patches: list[Patch]) -> Dataset[Any]:
        whole_days = self.split == "by_day"
        if self.modalities is None:
            return PatchDataset(self.folder, patches, self.patch_size, whole_days)
        return ModalPatches(
            self.folder if self._pictures else self.root,
            patches,
            self.modalities,
            self.patch_size,
            self.gray_size,
            self.context,
            self.keep_in_memory,
            whole_days,
        )

    @property
    def _pictures(self) -> bool:
        """Whether any of the modalities needs a picture."""
        return self.modalities != ["context"]

    @property
    def folder(self) -> Path:
        """Folder PATCHES, which some archives nest in another."""
        if not (found := find(self.root, ["PATCHES"])):
            raise FileNotFoundError(f"{self.root} has no folder PATCHES: put the unpacked patches there.")
        return found[0]

    def _read(self, patterns: Sequence[str]) -> list[Patch]:
        if not (found := find(self.root, patterns)):
            raise FileNotFoundError(
                f"{self.root} holds no list of labels: put one of {', '.join(patterns)} there."
            )
        return select(read_patches(found[0], self._left_out), self.weathers, self.days)

    def _without_black(self, patches: list[Patch]) -> list[Patch]:
        if not self._pictures:
            return patches
        folder = self.folder
        black = {patch.path for patch in patches if is_black(folder / patch.path)}
        for path in sorted(black):
            self._left_out.add("all-black patches", path)
        return [patch for patch in patches if patch.path not in black]
