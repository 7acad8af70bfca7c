"""What is known of every row of a data set before it is loaded: its label, its camera, its weather, ..."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from lkd.datamodules.splits import natural_key, pick

LABEL = "label"
GROUP = (
    "group"  # rows that a public share and a client's own split keep together, such as windows that overlap
)


class Columns(Mapping[str, np.ndarray]):
    """Columns of a data set, one value a row, each made when it is first asked for.

    They are, in this order: the data set's own `columns` (a dict of sequences), `targets` as torchvision's
    sets have it (as "label"), the last tensor of a `TensorDataset` of pairs, or the second parts of all
    samples (x, y), which are then loaded once. A `Subset` has the columns of what it is a subset of.

    Args:
        dataset: any map-style data set.

    Example:
        >>> import torch
        >>> columns = Columns(TensorDataset(torch.zeros(3, 2), torch.tensor([5, 7, 5])))
        >>> columns["label"]
        array([5, 7, 5])
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset
        self.size = len(dataset)  # type: ignore[arg-type]
        self._base = Columns(dataset.dataset) if isinstance(dataset, Subset) else None
        self._made: dict[str, np.ndarray] = {}
        self._known: Mapping[str, Any] = getattr(dataset, "columns", None) or {}
        self._labels: Any = None  # labels that need no loading
        if LABEL not in self._known:
            if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1:
                last = dataset.tensors[-1]
                self._labels = last if last.ndim == 1 and not last.is_floating_point() else None
            else:
                self._labels = getattr(dataset, "targets", None)

    @property
    def cheap(self) -> list[str]:
        """Names of the columns that are known without loading a sample."""
        names = self._base.cheap if self._base is not None else list(self._known)
        return names + [LABEL] * (self._labels is not None and LABEL not in names)

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
        if self._base is not None and name in self._base:
            return self._base[name][np.asarray(self.dataset.indices)]  # type: ignore[attr-defined]
        if name in self._known:
            return _array(self._known[name])
        if name != LABEL:
            raise KeyError(name)
        if self._labels is None:
            self._labels = _loaded(self.dataset, self.size)
        return _array(self._labels)

    def __iter__(self) -> Iterator[str]:
        """Names of all columns."""
        names = self.cheap
        return iter([*names, *([LABEL] if LABEL not in names and _has_label(self.dataset) else [])])

    def __len__(self) -> int:
        """Number of columns."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Whether there is a column of this name."""
        return name in self.cheap or (name == LABEL and _has_label(self.dataset))


def column(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The column `name`, or a ValueError with the names that there are.

    Example:
        >>> column({"camera": np.array(["C1"])}, "camera")
        array(['C1'], dtype='<U2')
    """
    if name not in columns:
        if not (names := list(columns)):
            raise ValueError(
                f"column={name!r}: the training data has no columns; give its data set a dict `columns`."
            )
        pick("column", [name], names)  # raises, with the nearest names
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


def _array(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _label(sample: Any) -> int | None:
    """The label of a sample (x, y), if it is one."""
    if not isinstance(sample, Sequence) or isinstance(sample, str) or len(sample) != 2:
        return None
    y = sample[1]
    if isinstance(y, Tensor | np.ndarray | np.generic):
        return int(y) if y.ndim == 0 and np.asarray(y).dtype.kind in "iub" else None
    return int(y) if isinstance(y, int) else None


def _has_label(dataset: Dataset[Any]) -> bool:
    return bool(len(dataset)) and _label(dataset[0]) is not None  # type: ignore[arg-type]


def _loaded(dataset: Dataset[Any], size: int) -> np.ndarray:
    """Labels (rows,) of a data set that tells them only sample by sample."""
    labels = [_label(dataset[row]) for row in range(size)]
    if any(label is None for label in labels):
        raise KeyError(LABEL)
    return np.array(labels, dtype=np.int64)
