"""UCI-HAR: accelerometer and gyroscope of a phone at the waist, and every person a client."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from lkd.checks import expect
from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule, collate_pair
from lkd.datamodules.modalities.modality_set import ChannelMoments, ModalitySet
from lkd.datamodules.samples.metadata import GROUP
from lkd.datamodules.samples.splits import Splits, pick
from lkd.datamodules.sensors.subject_split import by_person
from lkd.datamodules.sensors.uci_har_files import CLASSES, HALVES, Portion, read_half, require_release

MODALITIES = ("acc", "gyro")


class UCIHAR(ClassificationDataModule):
    """Batches (x, y): x a dict of "acc" and "gyro", each float (B, 3, 128); y int64 (B,), the activity.

    Anguita, Ghio, Oneto, Parra and Reyes-Ortiz, "A Public Domain Dataset for Human Activity Recognition Using
    Smartphones", ESANN 2013 (doi 10.24432/C54S4K): 30 people, 10,299 windows of 2.56 s at 50 Hz, six
    activities: walking, upstairs, downstairs, sitting, standing, lying. The archive's page says CC BY 4.0;
    the README inside says "any commercial use is prohibited".

    A window shares half of its readings with the next one of the same person and activity. Such runs of
    windows are the column "group", which keeps them together where clients' rows are split further. Other
    columns are "label" and "subject". There is no column "time", since the release has no times of windows.
    Every channel is normalized by mean and deviation over the training windows.

    Args:
        root: folder of the release as it unpacks (`UCI HAR Dataset/`), of its zip, or of what is downloaded.
        modalities: "acc", "gyro" or both; `None` for both.
        acceleration: "body", without gravity, is used for published federated figures (FedMultimodal);
            "total", with gravity, tells lying from standing at once.
        split: "official" keeps the release's nine test people and draws those to validate on from its 21
            others, in the proportion of the first two `fractions`; "subject" draws all parts from the 30.
        val_subjects: people to validate on, "s01" to "s30"; `None` draws.
        test_subjects: people to test on, with `split="subject"`; `None` draws.
        split_seed: seed of the draw of held-out people; `seed` is that of training.
        download: fetch the release (61 MB) if it is missing. Its address and hash are as others report them;
            we could not try them.
        **kwargs: see `ClassificationDataModule`. Shares are rounded to whole people.

    Raises:
        FileNotFoundError: if the release is missing and `download` is false.
        ValueError: for unknown names, or files that are not of this format.
    """

    def __init__(
        self,
        root: str = "data/uci_har",
        modalities: list[str] | None = None,
        acceleration: Literal["body", "total"] = "body",
        split: Literal["official", "subject"] = "official",
        val_subjects: list[str] | None = None,
        test_subjects: list[str] | None = None,
        split_seed: int = 0,
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        pick("acceleration", [acceleration], ("body", "total"))
        pick("split", [split], ("official", "subject"))
        if split == "official" and test_subjects is not None:
            raise ValueError("test_subjects chooses whom to test on: it needs split='subject'.")
        if split == "official" and self.fractions[2] == 1:
            raise ValueError(
                f"fractions={self.fractions} leave nobody to train on: split='official' has a test."
            )
        if self.fractions[0] == 0:
            raise ValueError(
                f"fractions={self.fractions} leave nobody to train on: the first must be above 0."
            )
        expect(split_seed=split_seed, ge=0)
        self.root, self.download = Path(root), download
        self.modalities = pick("modalities", modalities, MODALITIES)
        self.acceleration, self.split, self.split_seed = acceleration, split, split_seed
        self.val_subjects, self.test_subjects = val_subjects, test_subjects
        self.classes = list(CLASSES)
        self.splits = Splits([], [], [])  # people of each part
        self.moments: dict[str, ChannelMoments] = {}  # mean and deviation of the training windows

    def prepare_data(self) -> None:
        """Checks that the release is there, unpacks it, or downloads it."""
        require_release(self.root, self.download)

    def setup(self, stage: str | None = None) -> None:
        """Reads, splits and normalizes; the result does not depend on the stage."""
        if self.datasets:
            return
        folder = require_release(self.root, fetch=False)
        halves = [read_half(folder, half, self.acceleration) for half in HALVES]
        windows, self.splits = self._join(halves), self._split(*({*half.subject.tolist()} for half in halves))
        owners = windows.columns["subject"]
        parts = {
            name: windows.rows(np.flatnonzero(np.isin(owners, part)))
            for name, part in self.splits._asdict().items()
        }
        self.moments = parts["train"].moments()
        self.datasets = {name: part.normalized(self.moments) for name, part in parts.items()}

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Returns validation windows in order; an empty list if the share is 0 and no person is named."""
        if not self.val_subjects:
            return super().val_dataloader()
        return self._loader("val", batch_size=self.batch_size, collate_fn=collate_pair)

    def _split(self, train: set[str], test: set[str]) -> Splits:
        """Returns the people of every part, given those of the release's two halves."""
        if both := train & test:
            raise ValueError(f"{self.root}: {min(both)} is in train/ and in test/; that is not the release.")
        if self.split == "subject":
            return by_person(
                train | test, self.fractions, self.val_subjects, self.test_subjects, self.split_seed
            )
        first, second, _ = self.fractions
        shares = first / (first + second), second / (first + second), 0.0
        return by_person(train, shares, self.val_subjects, seed=self.split_seed)._replace(test=sorted(test))

    def _join(self, halves: list[Portion]) -> ModalitySet:
        """Returns all windows of both halves, without normalizing them."""
        x = {name: torch.from_numpy(np.concatenate([h.x[name] for h in halves])) for name in self.modalities}
        y = torch.from_numpy(np.concatenate([half.y for half in halves]))
        starts = np.cumsum([0] + [1 + half.recording[-1] for half in halves[:-1]])
        groups = [half.recording + start for half, start in zip(halves, starts, strict=True)]
        columns = {
            "subject": np.concatenate([half.subject for half in halves]),
            GROUP: np.concatenate(groups),
        }
        return ModalitySet(x, y, columns=columns)
