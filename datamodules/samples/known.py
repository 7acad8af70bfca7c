"""What is known of all samples of a data set without loading one, and which of it can be labels."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lkd.datamodules.samples.entries import LABEL, class_of, find_label

HOW = "give the data set a dict `columns` with a value for each sample, such as dataset.columns = {%r: [0, 1, 1]}"


class _ByName(Mapping[str, Any]):
    """Columns of a data set that can be indexed by their names."""

    def __init__(self, dataset: Any) -> None:
        # a transform would be given one column alone
        self._dataset = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
        self._names = {name: name for name in dataset.column_names}
        if LABEL not in self._names and (label := find_label(list(self._names))):
            self._names[LABEL] = label

    def __getitem__(self, name: str) -> Any:
        return list(self._dataset[self._names[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def known_columns(dataset: Any) -> Mapping[str, Any]:
    """Returns the columns that a data set has without loading samples.

    Args:
        dataset: any map-style data set.
    """
    known = getattr(dataset, "columns", None)
    names = getattr(dataset, "column_names", None)
    if not isinstance(known, Mapping):
        known = _ByName(dataset) if isinstance(names, list) and hasattr(dataset, "features") else {}
    if LABEL in known:
        return known
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1:
        return {**known, LABEL: last} if _is_label(last := dataset.tensors[-1]) else known
    labels = getattr(dataset, "targets", None)
    if labels is None and hasattr(getattr(dataset, "labels", None), "__len__"):
        labels = dataset.labels if len(dataset.labels) == len(dataset) else None
    return known if labels is None or callable(labels) else {**known, LABEL: labels}


def _is_label(last: Tensor) -> bool:
    """Returns whether the last tensor of a data set holds class numbers, plain or one-hot."""
    if last.ndim == 1 and not last.is_floating_point():
        return True
    return (
        last.ndim == 2
        and last.shape[1] > 1
        and bool(((last == 0) | (last == 1)).all() and (last.sum(1) == 1).all())
    )


def as_column(values: Any, name: str) -> np.ndarray:
    """Returns the values (rows,) of a column; a label's values as class numbers or texts.

    Raises:
        ValueError: for labels that are neither.
    """
    if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
        values = torch.stack(list(values))
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if name != LABEL or not len(array):
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    hot = [class_of(row) for row in array] if array.ndim == 2 else []
    if hot and None not in hot:
        return np.array(hot, dtype=np.int64)
    if array.ndim == 1 and array.dtype.kind == "f" and (array == np.round(array)).all():
        return array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iubU":
        row = next((row for row, one in enumerate(hot) if one is None), 0)
        raise ValueError(
            f"labels such as {array[row]!s:.60} are no classes, of which each sample has one: {HOW % LABEL}, or take a "
            "partition that needs none, such as IID()."
        )
    return array
