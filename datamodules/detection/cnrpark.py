"""CNRPark-EXT: nine cameras over one car park, as car detection or as patches; real or drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lkd.datamodules.classification.classification_datamodule import collate_pair
from lkd.datamodules.classification.cnrpark_patches import CNRParkPatches
from lkd.datamodules.detection.cnrpark_files import REMOTES
from lkd.datamodules.detection.cnrpark_layout import LABEL_FILES, busy_boxes, full_frames, label_file
from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.detection.formats.yolo_labels import read_yolo
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.fetched import require
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.samples.filters import select
from lkd.datamodules.samples.splits import Splits, by_day, pick


class CNRParkEXT(DetectionDataModule):
    """CNRPark-EXT (Amato et al., Expert Systems with Applications 2017, ODbL 1.0), and worlds in its layout.

    Slots are not cars: `targets="busy_slots"` takes the (mostly square) slot boxes marked busy as cars. They
    are looser than cars. Cars outside the slots, or in slots that a frame does not label, are missing, so a
    good detector looks worse on them than it is. `"cars"` are tight boxes from `root/boxes/`, which the
    procedural parking world writes. Slot labels say 0 free, 1 busy. Some copies of the lists have the two
    swapped, so use the official ones.

    Args:
        root: folder that holds `FULL_IMAGE_<W>x<H>/`, `cameraN.csv`, and `LABELS/all.txt` or
            `CNRPark+EXT.csv` (for patches `PATCHES/`), also one or two folders deeper, the lists also
            gzipped.
        task: "detection" on full frames, or "patches": batches (x, y) of slots, free 0 or busy 1.
        targets: "busy_slots" or "cars" (detection).
        weathers: "sunny", "overcast", "rainy"; `None` for all.
        days: dates "2015-11-12" or ranges "2015-11-12..2015-12-31"; `None` for all.
        split: "by_time", or "by_day" (whole days, the same for all cameras), as `fractions` say; or, patches
            only, the "official" lists train, val and test.
        test_cameras: patches: test on these cameras; `None` for those of training.
        exclude_shared_slots: patches: test without the slots that another training camera sees.
        patch_size: patches: side in pixels (`image_size` and the augmentations are for frames only).
        download: fetch what is missing (frames 1.1 GB, patches .45 GB).
        modalities: patches: as several modalities, see `CNRParkPatches`; `None` for plain pictures.
        gray_size: patches: side of the modality "gray" in pixels.
        context: patches: fields of the modality "context".
        keep_in_memory: patches: read every picture of the modalities once.
        **kwargs: see `DetectionDataModule`.

    Raises:
        FileNotFoundError: if something is missing; the message says what and where to get it.
        ValueError: for unknown names, or a selection that leaves nothing.
    """

    def __init__(
        self,
        root: str = "data/cnrpark_ext",
        task: Literal["detection", "patches"] = "detection",
        targets: Literal["busy_slots", "cars"] = "busy_slots",
        weathers: list[str] | None = None,
        days: list[str] | None = None,
        split: Literal["by_time", "by_day", "official"] = "by_time",
        test_cameras: list[str] | None = None,
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
        pick("task", [task], ("detection", "patches"))
        pick("targets", [targets], ("busy_slots", "cars"))
        if task == "detection":
            pick("split", [split], ("by_time", "by_day"))  # the official lists are of patches
        self.root, self.targets, self.weathers, self.days = Path(root), targets, weathers, days
        self.split, self.download, self._left_out = split, download, LeftOut()
        self._busy: dict[tuple[str, str], Tensor] | None = None  # read when first needed
        self.patches: CNRParkPatches | None = None
        if task == "patches":
            self.patches = CNRParkPatches(
                root,
                cameras=self.wanted_cameras,
                test_cameras=test_cameras,
                weathers=weathers,
                days=days,
                split=split,
                exclude_shared_slots=exclude_shared_slots,
                patch_size=patch_size,
                fractions=self.fractions,
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                seed=self.seed,
                download=download,
                modalities=modalities,
                gray_size=gray_size,
                context=context,
                keep_in_memory=keep_in_memory,
            )

    def prepare_data(self) -> None:
        """Checks that everything is there, or downloads it."""
        if self.patches is not None:
            return self.patches.prepare_data()
        require(self.root, ["FULL_IMAGE_*"], REMOTES["frames"], self.download)
        if self.unlabeled and self.fractions[0] == 1:
            return
        if self.targets == "busy_slots":
            require(self.root, ["camera[0-9]*.csv"], REMOTES["frames"], self.download)
            require(self.root, LABEL_FILES, REMOTES["labels"], self.download)
        elif not (self.root / "boxes").is_dir():
            raise FileNotFoundError(
                f"{self.root} has no boxes/ with tight boxes of cars, which only the drawn world has: "
                "set --data.targets=busy_slots."
            )

    def setup(self, stage: str | None = None) -> None:
        """Lists, selects, splits and labels the frames or patches."""
        if self.patches is None:
            return super().setup(stage)
        self.patches.trainer = self.trainer
        self.patches.setup(stage)
        self.cameras, self.splits = self.patches.cameras, self.patches.splits

    def frames(self) -> list[CameraFrame]:
        """Returns the full frames of the chosen weathers and days, without boxes."""
        frames = full_frames(self.root, self._left_out)
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        if not frames:
            raise FileNotFoundError(
                f"{self.root} holds no FULL_IMAGE_<W>x<H>/<WEATHER>/<DATE>/camera<N>/*.jpg"
            )
        return select(frames, self.weathers, self.days)

    def divide(self, frames: list[CameraFrame]) -> Splits:
        """Splits by time within each camera, or by whole days."""
        return by_day(frames, self.fractions) if self.split == "by_day" else super().divide(frames)

    def annotate(self, frames: list[CameraFrame]) -> list[CameraFrame]:
        """Reads tight boxes or busy slots; leaves out frames without any labeled slot, and counts them."""
        if self.targets == "busy_slots" and self._busy is None:
            self._busy = busy_boxes(self.root, self._left_out)
        labeled = []
        for frame in frames:
            if self._busy is None:
                boxes, _ = read_yolo(label_file(self.root, frame), left_out=self._left_out)
            elif (frame.camera, frame.time) in self._busy:
                boxes = self._busy[frame.camera, frame.time]
            else:
                self._left_out.add("frames in which no slot is labeled", frame.path)
                continue
            labeled.append(replace(frame, boxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.int64)))
        self._left_out.say(f"{type(self).__name__} in {self.root}")
        return labeled

    def train_dataloader(self) -> DataLoader:
        """Returns training batches of frames or patches."""
        return self.patches.train_dataloader() if self.patches else super().train_dataloader()

    def val_dataloader(self) -> DataLoader | Sequence[DataLoader]:
        """Returns validation batches, or an empty list if the share is 0."""
        return self.patches.val_dataloader() if self.patches else super().val_dataloader()

    def test_dataloader(self) -> DataLoader:
        """Returns test batches of frames or patches."""
        return self.patches.test_dataloader() if self.patches else super().test_dataloader()

    def unlabeled_dataloader(self) -> DataLoader:
        """Returns the training frames in order, whose labels are not read; for patches, these with theirs."""
        if self.patches is None:
            return super().unlabeled_dataloader()
        patches = self.patches.datasets["train"]
        return DataLoader(
            patches, batch_size=self.batch_size, collate_fn=collate_pair, num_workers=self.num_workers
        )

    def predict_dataloader(self) -> DataLoader:
        """Returns test frames without labels; for patches, the test batches."""
        return self.patches.test_dataloader() if self.patches else super().predict_dataloader()
