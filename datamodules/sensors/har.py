"""Activities of people who carry a phone and wear a watch: four modalities, and every person a client."""

import logging
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from lkd.checks import expect
from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule, collate_pair
from lkd.datamodules.io.fetched import require
from lkd.datamodules.modalities.modality_set import ChannelMoments, ModalitySet
from lkd.datamodules.samples.metadata import GROUP
from lkd.datamodules.samples.splits import Splits, by_time, pick
from lkd.datamodules.sensors.har_files import ARCHIVE, CLASSES, RELEASE, TABLES, Recording, read_recordings
from lkd.datamodules.sensors.har_synthetic import draw_recordings
from lkd.datamodules.sensors.subject_split import by_person
from lkd.datamodules.sensors.windows import cut

log = logging.getLogger(__name__)
# Modality -> device, and its channels among those of the device
MODALITIES = {
    "phone_acc": ("phone", slice(0, 3)),
    "phone_gyro": ("phone", slice(3, 6)),
    "watch_acc": ("watch", slice(0, 3)),
    "watch_gyro": ("watch", slice(3, 6)),
}


class SmartphoneSmartwatchHAR(ClassificationDataModule):
    """Batches (x, y): x a dict of modalities, each float (B, 3, T); y int64 (B,), the activity.

    Matey-Sanz, Casteleyn and Granell, "Dataset of inertial measurements of smartphones and smartwatches for
    human activity recognition", Data in Brief 2023 (doi 10.1016/j.dib.2023.109809; CC BY 4.0): 23 people get
    up, walk, turn, walk back, turn and sit down, 6 to 11 times each, with a phone in the pocket and a watch
    on the wrist. The classes are seated, standing up, walking, turning, sitting down; the modalities are
    "phone_acc", "phone_gyro", "watch_acc", "watch_gyro". It reads the release as it unpacks (Zenodo, doi
    10.5281/zenodo.8398688, or github.com/GeoTecINIT/sp-sw-har-dataset: `DATA/s01/s01_01_sp.csv` and so on)
    and the same data as `har_spsw.npz`.

    Devices are put on one clock and windows are cut by `lkd.datamodules.sensors.windows.cut`; a transition
    takes 0.8 to 2 s, so windows are short. Every channel is normalized by mean and deviation over the
    training windows. No part shares a recording with another: they hold different people, or different
    executions. The training set has columns "label", "subject", "orientation" (of the phone), "execution",
    "time" (ms) and "group" (the execution: it keeps overlapping windows together where clients' rows are
    split further).

    Args:
        root: folder of the recordings, or of what is downloaded; `None` draws 12 made-up people, 6 times
            each.
        modalities: some of the four; `None` for all. The windows are the same for any choice.
        rate: ticks per second.
        window: length in seconds; T is `window` times `rate`.
        overlap: share of a window that the next one sees again, in [0, 1).
        purity: least share of a window that its label must have; other windows are left out.
        max_gap: a device is absent (see `ModalitySet`) from windows where it has no rows for this many
            seconds. The real recordings lack no row, so nothing is absent.
        split: "subject" holds out people; "execution" holds out everybody's later executions.
        val_subjects: people to validate on, "s01" to "s23"; `None` draws the share of `fractions`.
        test_subjects: people to test on; `None` draws them likewise.
        split_seed: seed of the draw of held-out people; `seed` is that of training.
        download: fetch what is missing (an archive of the CSV files).
        **kwargs: see `ClassificationDataModule`. Shares are rounded to whole people or executions.

    Raises:
        FileNotFoundError: if the recordings are missing and `download` is false.
        ValueError: for numbers out of range, unknown names, or a choice that leaves no window.

    Example:
        >>> data = SmartphoneSmartwatchHAR(root=None)
        >>> data.setup()
        >>> x, y = next(iter(data.train_dataloader()))
        >>> sorted(x), x["watch_acc"].shape
        (['phone_acc', 'phone_gyro', 'watch_acc', 'watch_gyro'], torch.Size([32, 3, 50]))
    """

    def __init__(
        self,
        root: str | None,
        modalities: list[str] | None = None,
        rate: float = 50.0,
        window: float = 1.0,
        overlap: float = 0.5,
        purity: float = 0.6,
        max_gap: float = 0.1,
        split: Literal["subject", "execution"] = "subject",
        val_subjects: list[str] | None = None,
        test_subjects: list[str] | None = None,
        split_seed: int = 0,
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        expect(rate=rate, window=window, max_gap=max_gap, gt=0)
        if round(window * rate) < 2:
            raise ValueError(
                f"window={window} s at rate={rate} is fewer than two ticks: take a longer window."
            )
        expect(overlap=overlap, ge=0, lt=1)
        expect(purity=purity, gt=0, le=1)
        expect(split=split, among=("subject", "execution"))
        if split == "execution" and (val_subjects or test_subjects):
            raise ValueError("val_subjects and test_subjects hold people out: they need split='subject'.")
        expect(split_seed=split_seed, ge=0)
        self.modalities = pick("modalities", modalities, MODALITIES)
        self.cutting = dict(rate=rate, window=window, overlap=overlap, purity=purity, max_gap=max_gap)
        self.root, self.download = None if root is None else Path(root), download
        self.split, self.split_seed = split, split_seed
        self.val_subjects, self.test_subjects = val_subjects, test_subjects
        self.classes = list(CLASSES)
        self.splits = Splits([], [], [])
        self.moments: dict[str, ChannelMoments] = {}  # mean and deviation of the training windows

    def prepare_data(self) -> None:
        """Checks that everything is there, or downloads it."""
        if self.root is not None:
            require(self.root, [ARCHIVE, TABLES], RELEASE, self.download)

    def setup(self, stage: str | None = None) -> None:
        """Reads, splits, cuts and normalizes; the result does not depend on the stage."""
        if self.datasets:
            return
        if self.root is None:
            log.warning("root=None: these recordings are made up.")
        recordings = draw_recordings() if self.root is None else read_recordings(self.root)
        self.splits, windows = self._split(recordings), self._cut(recordings)
        owners = windows.columns["execution"]
        parts = {
            name: windows.rows(np.flatnonzero(np.isin(owners, [one.execution for one in part])))
            for name, part in self.splits._asdict().items()
        }
        if not len(parts["train"]):
            raise ValueError(
                f"window={self.cutting['window']} with purity={self.cutting['purity']} leaves no training window "
                f"of {len(self.splits.train)} recordings: lower them, or change fractions={self.fractions}."
            )
        self.moments = parts["train"].moments()
        self.datasets = {name: part.normalized(self.moments) for name, part in parts.items()}

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Returns validation windows in order; an empty list if the share is 0 and no person is named."""
        if not self.val_subjects:
            return super().val_dataloader()
        return self._loader("val", batch_size=self.batch_size, collate_fn=collate_pair)

    def _split(self, recordings: list[Recording]) -> Splits:
        """Returns the recordings of every part."""
        if self.split == "execution":
            items = [_Timed(one.subject, one.execution, one) for one in recordings]
            return Splits(*([item.recording for item in part] for part in by_time(items, self.fractions)))
        everybody = {one.subject for one in recordings}
        parts = by_person(everybody, self.fractions, self.val_subjects, self.test_subjects, self.split_seed)
        return Splits(*([one for one in recordings if one.subject in part] for part in parts))

    def _cut(self, recordings: list[Recording]) -> ModalitySet:
        """Cuts all windows that have any of the modalities, without normalizing them."""
        cuts = [cut(one.streams, **self.cutting) for one in recordings]
        x, present = {}, {}
        for name in self.modalities:
            device, channels = MODALITIES[name]
            x[name] = torch.from_numpy(np.concatenate([part.x[device][:, channels] for part in cuts]))
            present[name] = torch.from_numpy(np.concatenate([part.present[device] for part in cuts]))
        owners = np.repeat(np.arange(len(cuts)), [len(part.y) for part in cuts])
        columns = {
            "subject": np.array([one.subject for one in recordings])[owners],
            "orientation": np.array([one.orientation for one in recordings])[owners],
            "execution": np.array([one.execution for one in recordings])[owners],
            "time": np.concatenate([part.time for part in cuts]),
        }
        columns[GROUP] = columns["execution"]  # overlapping windows stay together in splits
        y = torch.from_numpy(np.concatenate([part.y for part in cuts]))
        there = torch.stack(list(present.values()))
        rows = np.flatnonzero(there.any(0))
        complete = bool(there[:, rows].all())
        return ModalitySet(x, y, None if complete else present, columns).rows(rows)


class _Timed(NamedTuple):
    """Recording with camera and time for `by_time`: later executions of a person come later."""

    camera: str
    time: str
    recording: Recording
