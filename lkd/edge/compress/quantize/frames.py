"""The camera's own frames, on which ranges are calibrated: training data, whose labels nobody reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from lkd.edge.export.boxes import Boxes, padded
from lkd.edge.export.kind import Kind, Part, arrays
from lkd.edge.export.logits import Logits
from lkd.edge.nms import Array
from lkd.models import PerCamera
from lkd.packages import overrides

AT_ONCE = 16


def check_calibration(data: LightningDataModule) -> None:
    """Refuses data without any to train on.

    Raises:
        ValueError: With what to do.
    """
    if not overrides(data, "train_dataloader"):
        raise ValueError(
            f"{type(data).__name__} has no training data (no train_dataloader), and int8 is calibrated on frames of it: give some, "
            "unlabelled if you like."
        )


def calibration_frames(
    kind: Kind, parts: Mapping[str, Part], data: LightningDataModule, count: int
) -> dict[str, list[dict[str, Array]]]:
    """Samples of the training data as each file takes them, evenly spaced over the data, so that no chance is in them.

    Args:
        kind: The student.
        parts: Its parts; those of a camera get that camera's frames.
        data: Of the configuration. Its `unlabeled_dataloader()`, where it has such a method, gives the frames (after
            `setup("predict")`, for which no label has to be read), else the training data do, as they are served.
        count: How many, or all where there are fewer.

    Returns:
        By part, a dict of arrays `(1, ...)` for each sample.

    Raises:
        ValueError: If there are none, or a batch of them is not what the student is tested on.
    """
    data.prepare_data()
    plain = getattr(data, "unlabeled_dataloader", None)
    data.setup("fit" if plain is None else "predict")
    dataset, join = _asked(data, (data.train_dataloader if plain is None else plain)())
    cameras = isinstance(kind, Boxes) and isinstance(kind.module.network, PerCamera)
    found: dict[str, list[dict[str, Array]]] = {}
    for name, part in parts.items():
        rows: Sequence[int] = range(len(dataset))
        if cameras:
            rows = [row for row in rows if dataset.columns["camera"][row] == name]
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
        samples = []
        for start in range(0, len(chosen), AT_ONCE):
            batch = join([rows[row] for row in chosen[start : start + AT_ONCE].tolist()])
            samples += _inputs(kind, part, batch)
        if not samples:
            who = f" of the camera {name}" if name else ""
            raise ValueError(f"there are no training frames{who} to calibrate on: give data that have some.")
        found[name] = samples
    return found


def _asked(data: LightningDataModule, loader: Any) -> tuple[Any, Any]:
    """The data set of a loader, and what makes a batch of numbers in it."""
    dataset = getattr(loader, "dataset", None)
    if dataset is None or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"the training data of {type(data).__name__} cannot be asked for single samples (a data set with __getitem__ and "
            "__len__ in one DataLoader), so that none can be chosen to calibrate on: serve them so."
        )
    if loader.batch_size is None:  # the data set is asked for batches
        return dataset, lambda rows: loader.collate_fn(dataset[rows])
    return dataset, lambda rows: loader.collate_fn([dataset[row] for row in rows])


def _inputs(kind: Kind, part: Part, batch: Any) -> list[dict[str, Array]]:
    """A batch as the file takes it, one sample each."""
    if isinstance(kind, Boxes):
        size = part.inputs["images"].shape[-2:]
        images = batch["images"]
        fits = images.shape[-2] <= size[0] and images.shape[-1] <= size[1]
        if not fits:
            raise ValueError(
                f"training frames of {images.shape[-2]}x{images.shape[-1]} (height x width) do not fit into the file's input of "
                f"{size[0]}x{size[1]}: give input_size, or frames of one size."
            )
        tensors = {"images": padded(images, size)}
    elif isinstance(kind, Logits):
        x = batch[0] if isinstance(batch, Sequence) else batch
        tensors = kind.tensors(x)
        wanted = {name: tuple(tensor.shape[1:]) for name, tensor in part.inputs.items()}
        shapes = {name: tuple(getattr(tensor, "shape", ())[1:]) for name, tensor in tensors.items()}
        if shapes != wanted:
            raise ValueError(f"training samples have the shapes {shapes}, and the file takes {wanted}.")
    else:
        raise ValueError(f"what a {type(kind).__name__} takes of a training batch is not known to int8.")
    count = len(next(iter(tensors.values())))
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return [arrays({name: t[row : row + 1] for name, t in whole.items()}) for row in range(count)]
