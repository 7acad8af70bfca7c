"""The camera's own frames for calibrating ranges: training data, whose labels are not read."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lkd.copies import copied
from lkd.distillation.own_call import own_call
from lkd.edge.export.boxes import DetectorKind, padded
from lkd.edge.export.kind import ExportPart, StudentKind, arrays
from lkd.edge.export.logits import ClassifierKind
from lkd.edge.export.measure import quiet
from lkd.edge.nms import Array
from lkd.models import PerCamera
from lkd.packages import overrides

AT_ONCE = 16


def check_calibration(data: LightningDataModule) -> None:
    """Refuses data without a training part.

    Raises:
        ValueError: If there is none; the message says what to do.
    """
    if not overrides(data, "train_dataloader"):
        raise ValueError(
            f"{type(data).__name__} has no training data (no train_dataloader), and int8 is calibrated on frames of it: give some, "
            "unlabeled if you like."
        )


def calibration_frames(
    kind: StudentKind, parts: Mapping[str, ExportPart], data: LightningDataModule, count: int
) -> dict[str, list[dict[str, Array]]]:
    """Returns samples of the training data as each file takes them, evenly spaced, so that nothing is random.

    Args:
        kind: Kind of the student.
        parts: Parts of the student; those of a camera get that camera's frames.
        data: Data module of the configuration. If it has a method `unlabeled_dataloader()`, that gives the
            frames (after `setup("predict")`, for which no label has to be read). Otherwise the training data
            give them as they are.
        count: How many samples, or all if there are fewer.

    Returns:
        A list for each part, with a dict of arrays `(1, ...)` for each sample.

    Raises:
        ValueError: If there are no samples, or their batches are not like those of the student's test.
    """
    data.prepare_data()
    plain = getattr(data, "unlabeled_dataloader", None)
    data.setup("fit" if plain is None else "predict")
    dataset, join = _asked(data, (data.train_dataloader if plain is None else plain)())
    module = copied(kind.module, "module")
    cameras = isinstance(kind, DetectorKind) and isinstance(kind.module.network, PerCamera)
    found: dict[str, list[dict[str, Array]]] = {}
    for name, part in parts.items():
        rows: Sequence[int] = range(len(dataset))
        if cameras:
            rows = [row for row in rows if dataset.columns["camera"][row] == name]
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
        parts_of_rows = [chosen[start : start + AT_ONCE].tolist() for start in range(0, len(chosen), AT_ONCE)]
        batches = _Lazy([partial(join, [rows[row] for row in some]) for some in parts_of_rows])
        samples = _through_hooks(module, data, batches, partial(_inputs, kind, part, module))
        if not samples:
            who = f" of the camera {name}" if name else ""
            raise ValueError(f"there are no training frames{who} to calibrate on: give data that have some.")
        found[name] = samples
    return found


def _asked(data: LightningDataModule, loader: Any) -> tuple[Any, Any]:
    """Returns the data set of a loader, and a function that makes a batch from numbers in it."""
    dataset = getattr(loader, "dataset", None)
    if dataset is None or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"the training data of {type(data).__name__} cannot be asked for single samples (a data set with __getitem__ and "
            "__len__ in one DataLoader), so that none can be chosen to calibrate on: serve them so."
        )
    if loader.batch_size is None:  # the data set itself gives batches
        return dataset, lambda rows: loader.collate_fn(dataset[rows])
    return dataset, lambda rows: loader.collate_fn([dataset[row] for row in rows])


class _Lazy:
    """Batches that are made when it is their turn."""

    def __init__(self, makers: Sequence[Callable[[], Any]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __iter__(self) -> Iterator[Any]:
        return (make() for make in self._makers)


def _through_hooks(
    module: LightningModule,
    data: LightningDataModule,
    batches: _Lazy,
    split: Callable[[Any], list[dict[str, Array]]],
) -> list[dict[str, Array]]:
    """Splits batches as a step gets them on the CPU, after the hooks of data and module that change them.

    Args:
        module: A copy of the module, whose `predict_step` is replaced.
        data: The data, which have been set up.
        batches: The batches.
        split: Makes samples of a batch.
    """
    served, samples = copy.copy(data), list[dict[str, Array]]()
    nothing = dict.fromkeys(("prepare_data", "setup", "teardown"), lambda *_, **__: None)
    vars(served).update(nothing, predict_dataloader=lambda: batches)

    def predict_step(batch: Any, *_: Any) -> bool:
        samples.extend(split(batch))
        return True

    vars(module)["predict_step"] = predict_step
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*You have overridden")
        Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).predict(module, datamodule=served, return_predictions=False)
    return samples


def _inputs(
    kind: StudentKind, part: ExportPart, module: LightningModule, batch: Any
) -> list[dict[str, Array]]:
    """Splits a batch into the file's inputs, one sample each."""
    if isinstance(kind, DetectorKind):
        size = part.inputs["images"].shape[-2:]
        images = batch["images"]
        fits = images.shape[-2] <= size[0] and images.shape[-1] <= size[1]
        if not fits:
            raise ValueError(
                f"training frames of {images.shape[-2]}x{images.shape[-1]} (height x width) do not fit into the file's input of "
                f"{size[0]}x{size[1]}: give input_size, or frames of one size."
            )
        tensors = {"images": padded(images, size)}
    elif isinstance(kind, ClassifierKind):
        call = own_call(module, batch, "test_step")
        tensors = kind.tensors(next(iter((*call.args, *call.kwargs.values())), None))
        wanted = {name: tuple(tensor.shape[1:]) for name, tensor in part.inputs.items()}
        shapes = {name: tuple(getattr(tensor, "shape", ())[1:]) for name, tensor in tensors.items()}
        if shapes != wanted:
            raise ValueError(
                f"training samples have the shapes {shapes}, and the file takes {wanted}: give training batches that "
                f"{type(module).__name__}.test_step can take, too."
            )
    else:
        raise ValueError(f"what a {type(kind).__name__} takes of a training batch is not known to int8.")
    count = len(next(iter(tensors.values())))
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return [arrays({name: t[row : row + 1] for name, t in whole.items()}) for row in range(count)]
