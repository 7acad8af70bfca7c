"""`PictureAnswerSource`: pictures of a classifier's data, sent whole."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
import xxhash
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.v2 import functional as F

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.payload import Payload
from lkd.edge.offload.source import AnswerSource, Split, timed
from lkd.edge.predict.predictor import RunnableStudent, softmax
from lkd.metrics.flops import FlopCount
from lkd.packages import overrides
from lkd.teachers import Teacher
from lkd.transfers import hooks_of


class PictureAnswerSource(AnswerSource):
    """Pictures as the data give them to the student.

    The sent ones are made of them, and normalized for the teacher.

    Args:
        student: A checkpoint or a file.
        teacher: A classifier with the same classes.
        data: Data module whose `test_dataloader()` measures. Calibration is on `val_dataloader()`, or else on
            training pictures without augmentation.
        payload: How a picture is sent.
        labels: Whether labels of the calibration pictures are read.

    Raises:
        ValueError: For data that are no pictures in [0, 1], have nothing to calibrate on, or are changed by
            hooks.
    """

    chunk = 256

    def __init__(
        self,
        student: RunnableStudent,
        teacher: Teacher,
        data: LightningDataModule,
        payload: Payload,
        labels: bool = False,
    ) -> None:
        self.student, self.teacher, self.payload, self.labels = student, teacher, payload, labels
        self.task = ClassTask()
        (entry,) = student.spec["inputs"]
        self.name, self.pixels = entry["name"], _Pixels(entry, type(data).__name__)
        if changing := [hook for hook in hooks_of(data) if hook != "transfer_batch_to_device"]:
            raise ValueError(
                f"{type(data).__name__}.{changing[0]} changes batches on their way to the network, and what is sent is made of the samples "
                "before that: normalize in the data set."
            )
        data.prepare_data()
        data.setup("fit")
        data.setup("test")
        calibration, what = _calibration(data)
        self.sets: dict[Split, Any] = {
            "calibration": calibration,
            "test": _held(data.test_dataloader(), data),
        }
        self.calibrated_on = f"{len(calibration)} {what}, {'with' if labels else 'without'} their labels"

    def cameras(self, split: Split) -> Sequence[str]:
        """Returns the camera of each sample, if the data have a column of that name."""
        columns = getattr(self.sets[split], "columns", None) or {}
        named = columns.get("camera") if isinstance(columns, Mapping) else None
        return [""] * len(self.sets[split]) if named is None else [str(name) for name in named]

    def digest(self, split: Split) -> str:
        """Returns a hash of the number of samples, and of every picture of up to a thousand of them."""
        held = self.sets[split]
        seen = xxhash.xxh3_64(str(len(held)).encode())
        for row in np.linspace(0, len(held) - 1, min(len(held), 1000)).astype(int).tolist():
            seen.update(held[row][0].contiguous().numpy().tobytes())
        return seen.hexdigest()

    def truth(self, split: Split, answers: Answers) -> Sequence[Answer] | None:
        """Returns the label of each sample."""
        if split == "calibration" and not self.labels:
            return None
        held = self.sets[split]
        return [{"label": np.array([int(held[row][1])])} for row in range(len(held))]

    def ask(self, split: Split, start: int, stop: int) -> Answers:
        """Asks about all samples at once; time is measured on the first one alone."""
        held = self.sets[split]
        x = torch.stack([held[row][0] for row in range(start, stop)])
        self._local(x[:1])  # so that work that is done only once is not timed
        local, (_, device_ms) = self._local(x), timed(lambda: self._local(x[:1]))
        encoded = [self.payload.sent(picture) for picture in self.pixels.bytes_of(x)]
        seen = self.pixels.tensor(encoded, x.shape[2:])
        self._remote(seen[:1])
        remote, (_, server_ms) = self._remote(seen), timed(lambda: self._remote(seen[:1]))
        if remote.shape != local.shape:
            raise ValueError(
                f"the teacher answers with {remote.shape[1]} classes and the student with {local.shape[1]}: give a teacher of the "
                "student's classes, in their order."
            )
        count = stop - start
        return Answers(
            [{"probabilities": row} for row in local],
            [[{"probabilities": row}] for row in remote],
            np.tile(np.array(x.shape[2:]), (count, 1)),
            np.array([[size] for _, size in encoded]),
            np.full(count, device_ms),
            np.full((count, 1), server_ms),
        )

    def mmacs(self) -> float:
        """Returns the student's millions of multiply-accumulates for a picture.

        It is NaN for a file, which does not tell.
        """
        with FlopCount() as count:
            self._local(self.sets["test"][0][0][None])
        return count.total / 2e6 or nan

    def _local(self, x: Tensor) -> Array:
        return softmax(self.student.run({self.name: x.numpy()})["logits"])

    def _remote(self, x: Tensor) -> Array:
        logits = self.teacher(x)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(
                f"the teacher answers with {type(logits).__name__}, and a cascade of classifiers needs logits (B, C): give one that "
                "classifies."
            )
        return softmax(logits.float().cpu().numpy())


class _Pixels:
    """Conversion of normalized pictures to bytes, and back."""

    def __init__(self, entry: Mapping[str, Any], who: str) -> None:
        if "pixels" not in entry["layout"]:
            raise ValueError(
                f"{who} gives {entry['layout']}, and what is sent are pictures: JPEG and WebP have 1 or 3 channels."
            )
        if entry["normalization"] is None:
            raise ValueError(
                f"{who} does not say how its pictures are normalized, so nobody knows which bytes to send: give it mean and std."
            )
        self.who = who
        how = entry["normalization"]
        self.mean, self.std = (
            torch.tensor(how[k], dtype=torch.float32).reshape(-1, 1, 1) for k in ("mean", "std")
        )

    def bytes_of(self, x: Tensor) -> list[Array]:
        """Returns pictures `(H, W, C)` uint8 from normalized ones `(B, C, H, W)`."""
        shares = x * self.std + self.mean
        if shares.min() < -0.01 or shares.max() > 1.01:
            raise ValueError(
                f"pixels of {self.who} lie in [{shares.min():.2f}, {shares.max():.2f}] when its mean and std are taken back, and must "
                "lie in [0, 1]: give the mean and std that they were normalized by."
            )
        whole = (shares * 255).round().clamp(0, 255).to(torch.uint8)
        return list(whole.permute(0, 2, 3, 1).contiguous().numpy())

    def tensor(self, sent: Sequence[tuple[Array, int]], size: Sequence[int]) -> Tensor:
        """Returns what arrives, in its former size and normalized: `(B, C, H, W)`."""
        pictures = [
            F.resize(torch.from_numpy(one).permute(2, 0, 1), list(size), antialias=True) for one, _ in sent
        ]
        return (torch.stack(pictures).float() / 255 - self.mean) / self.std


def _calibration(data: LightningDataModule) -> tuple[Any, str]:
    """Returns validation pictures, or else training pictures without augmentation, and their name."""
    loader = data.val_dataloader() if overrides(data, "val_dataloader") else []
    if isinstance(loader, DataLoader):
        return _held(loader, data), "validation pictures"
    trained = _held(data.train_dataloader(), data) if overrides(data, "train_dataloader") else None
    plain = trained if isinstance(trained, TensorDataset) else getattr(trained, "plain", None)
    if plain is None:
        raise ValueError(
            f"{type(data).__name__} has no validation pictures, and thresholds are never chosen on test data: give it a validation "
            "share (val=0.1, or fractions)."
        )
    return plain, "training pictures, as there are no validation pictures"


def _held(loader: Any, data: LightningDataModule) -> Any:
    """Returns the data set of a loader.

    Raises:
        ValueError: If it is no set of samples `(x, y)`.
    """
    held = getattr(loader, "dataset", None)
    first = held[0] if held is not None and hasattr(held, "__len__") and len(held) else None
    if (
        not isinstance(first, tuple | list)
        or len(first) < 2
        or not isinstance(first[0], Tensor)
        or first[0].ndim != 3
    ):
        raise ValueError(
            f"{type(data).__name__} gives no samples (x, y) with pictures x (C, H, W), which can be sent: offload takes pictures of a "
            "classifier's data, or frames of a DetectionDataModule."
        )
    return held
