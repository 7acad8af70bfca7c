"""What is known of every row of a data set before it is loaded: its label, its camera, its weather, ..."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from lkd.datamodules.samples.batching import seeded
from lkd.datamodules.samples.entries import LABEL, entries, find_label
from lkd.datamodules.samples.known import HOW, as_column, known_columns
from lkd.datamodules.samples.splits import pick
from lkd.natural_order import natural_key

GROUP = (
    "group"  # rows that a public share and a client's own split keep together, such as windows that overlap
)


class Columns(Mapping[str, np.ndarray]):
    """Columns of a data set, one value for each row, each made when it is first asked for.

    The first of these that exists is used: the data set's own `columns` (a dict of sequences, or names that
    index the data set, as in Hugging Face's sets); `targets` or `labels` as in torchvision's sets (as
    "label"); the last tensor of a `TensorDataset`; the single values of its samples, which are then loaded
    once (see `entries`). A `Subset` has the columns of its data set, a `ConcatDataset` those that all its
    parts have. One-hot vectors and whole numbers in floats count as class numbers.

    Args:
        dataset: any map-style data set.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> columns = Columns(TensorDataset(torch.zeros(3, 2), torch.tensor([5, 7, 5])))
        >>> columns["label"]
        array([5, 7, 5])
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.size = len(dataset)
        self._base = Columns(dataset.dataset) if isinstance(dataset, Subset) else None
        self._parts = [Columns(d) for d in dataset.datasets] if isinstance(dataset, ConcatDataset) else []
        self._made: dict[str, np.ndarray] = {}
        self._known = known_columns(dataset)
        self._names: list[str] | None = None  # names of the values in the samples
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
        """Returns the values (rows,) of a column, or raises KeyError if there is none of this name."""
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
                return self._base[name][np.asarray(self.dataset.indices)]
            if self._parts:
                return np.concatenate([part[name] for part in self._parts])
            return as_column(self._known[name], name)
        if name not in self:
            raise KeyError(name)
        found = name if name in self._of_samples else find_label(self._of_samples)
        return as_column(self._load()[str(found)], name)

    @property
    def _of_samples(self) -> list[str]:
        """Names of the values that the first sample has."""
        if self._names is None:
            with seeded(0):  # transforms may draw from the global states
                self._names = list(entries(self.dataset[0])) if self.size else []
            if self.cheap:  # the author has said which columns there are, up to the label
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
        """Yields the names of all columns."""
        more = [*self._of_samples, *([LABEL] if find_label(self._of_samples) else [])]
        return iter(dict.fromkeys([*self.cheap, *more]))

    def __len__(self) -> int:
        """Returns the number of columns."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Returns whether there is a column of this name."""
        if name in self.cheap or name in self._of_samples:
            return True
        return name == LABEL and find_label(self._of_samples) is not None


def column(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Returns the column `name`, or raises ValueError with the names that exist and how to add others.

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
    """Returns the different values in natural order, and the place (rows,) of every row's value among them.

    Example:
        >>> codes(np.array(["C10", "C2", "C10"]))
        (['C2', 'C10'], array([1, 0, 1]))
    """
    unique, inverse = np.unique(values, return_inverse=True)
    inverse = inverse.reshape(-1)
    if unique.dtype.kind in "iufb":  # numbers are in their order already
        return unique.tolist(), inverse.astype(np.int64, copy=False)
    named = unique.tolist()
    order = sorted(range(len(named)), key=lambda i: natural_key(str(named[i])))
    place = np.empty(len(named), dtype=np.int64)
    place[order] = np.arange(len(named))
    return [named[i] for i in order], place[inverse]
