"""What is known of every row of a data set before it is loaded: its label, its camera, its weather, ..."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from lkd.datamodules.batching import seeded
from lkd.datamodules.entries import LABEL, class_of, entries, find_label
from lkd.datamodules.splits import natural_key, pick

GROUP = (
    "group"  # rows that a public share and a client's own split keep together, such as windows that overlap
)
HOW = "give the data set a dict `columns` with a value for each sample, such as dataset.columns = {%r: [0, 1, 1]}"


class Columns(Mapping[str, np.ndarray]):
    """Columns of a data set, one value a row, each made when it is first asked for.

    They are, in this order: the data set's own `columns` (a dict of sequences, or names that it takes as an index, as
    Hugging Face's sets do); `targets` or `labels` as torchvision's sets have them (as "label"); the last tensor of a
    `TensorDataset`; or the single values of its samples, which are then loaded once, see `entries`. A `Subset` has
    the columns of what it is a subset of, a `ConcatDataset` those that all its parts have. Labels that are one-hot
    vectors or whole numbers in floats count as class numbers.

    Args:
        dataset: any map-style data set.

    Example:
        >>> columns = Columns(TensorDataset(torch.zeros(3, 2), torch.tensor([5, 7, 5])))
        >>> columns["label"]
        array([5, 7, 5])
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset
        self.size = len(dataset)  # type: ignore[arg-type]
        self._base = Columns(dataset.dataset) if isinstance(dataset, Subset) else None
        self._parts = [Columns(d) for d in dataset.datasets] if isinstance(dataset, ConcatDataset) else []
        self._made: dict[str, np.ndarray] = {}
        self._known = _known(dataset)
        self._names: list[str] | None = None  # of what the samples say
        self._loaded: dict[str, list[Any]] | None = None

    @property
    def cheap(self) -> list[str]:
        """Names of the columns that are known without loading a sample."""
        if self._base is not None:
            return self._base.cheap
        if self._parts:
            return [n for n in self._parts[0].cheap if all(n in part.cheap for part in self._parts)]
        return list(self._known)

    def __getitem__(self, name: str) -> np.ndarray:
        """The values (rows,) of a column; KeyError if there is none of this name."""
        if name not in self._made:
            self._made[name] = self._make(name)
            if len(self._made[name]) != self.size:
                raise ValueError(
                    f"column {name!r} has {len(self._made[name])} values for {self.size} samples: one each."
                )
        return self._made[name]

    def _make(self, name: str) -> np.ndarray:
        if name in self.cheap:
            if self._base is not None:
                return self._base[name][np.asarray(self.dataset.indices)]  # type: ignore[attr-defined]
            if self._parts:
                return np.concatenate([part[name] for part in self._parts])
            return _classes(self._known[name], name)
        if name not in self:
            raise KeyError(name)
        found = name if name in self._of_samples else find_label(self._of_samples)
        return _classes(self._load()[str(found)], name)

    @property
    def _of_samples(self) -> list[str]:
        """Names of the values that the first sample has."""
        if self._names is None:
            with seeded(0):  # transforms may draw from the global states
                self._names = list(entries(self.dataset[0])) if self.size else []
            if self.cheap:  # whose author says what there is, up to the label
                self._names = [name for name in self._names if name == find_label(self._names)]
        return self._names

    def _load(self) -> dict[str, list[Any]]:
        if self._loaded is None:
            with seeded(0):
                told = [entries(self.dataset[row]) for row in range(self.size)]
            self._loaded = {}
            for name in self._of_samples:
                lacking = [row for row, values in enumerate(told) if name not in values]
                if not lacking:
                    self._loaded[name] = [values[name] for values in told]
                elif name == find_label(self._of_samples):
                    raise ValueError(
                        f"sample {lacking[0]} of {type(self.dataset).__name__} has no single value as {name!r}, which the first "
                        f"has: {HOW % LABEL}."
                    )
        return self._loaded

    def __iter__(self) -> Iterator[str]:
        """Names of all columns."""
        more = [*self._of_samples, *([LABEL] if find_label(self._of_samples) else [])]
        return iter(dict.fromkeys([*self.cheap, *more]))

    def __len__(self) -> int:
        """Number of columns."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Whether there is a column of this name."""
        if name in self.cheap or name in self._of_samples:
            return True
        return name == LABEL and find_label(self._of_samples) is not None


class _ByName(Mapping[str, Any]):
    """Columns of a data set that takes their names as an index."""

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


def _known(dataset: Any) -> Mapping[str, Any]:
    """Columns that need no loading."""
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
    """Whether the last tensor of a data set is one of class numbers, as they are or one-hot."""
    if last.ndim == 1 and not last.is_floating_point():
        return True
    return (
        last.ndim == 2
        and last.shape[1] > 1
        and bool(((last == 0) | (last == 1)).all() and (last.sum(1) == 1).all())
    )


def column(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The column `name`, or a ValueError with the names that there are and how to give others.

    Example:
        >>> column({"camera": np.array(["C1"])}, "camera")
        array(['C1'], dtype='<U2')
    """
    if name not in columns:
        if not (names := list(columns)):
            raise ValueError(f"column={name!r}: the training data have no columns: {HOW % name}.")
        try:
            pick("column", [name], names)  # raises, with the nearest names
        except ValueError as error:
            raise ValueError(f"{error} Take one of these, or {HOW % name}.") from None
    return np.asarray(columns[name])


def codes(values: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """The different values in natural order, and for every row the place (rows,) of its value among them.

    Example:
        >>> codes(np.array(["C10", "C2", "C10"]))
        (['C2', 'C10'], array([1, 0, 1]))
    """
    unique, inverse = np.unique(values, return_inverse=True)
    order = sorted(range(len(unique)), key=lambda i: natural_key(str(unique[i])))
    if unique.dtype.kind in "iufb":
        order = list(range(len(unique)))
    place = np.empty(len(unique), dtype=np.int64)
    place[order] = np.arange(len(unique))
    return [unique[i].item() for i in order], place[inverse.reshape(-1)]


def _classes(values: Any, name: str) -> np.ndarray:
    """The values (rows,) of a column; a label's as class numbers or texts.

    Raises:
        ValueError: for labels that are none.
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
