"""A data set under a modality plan: each sample with what its client has, and with the label there."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lkd.datamodules.samples.samplers import Key
from lkd.modalities import PRESENT


class Planned(Dataset[Any]):
    """Samples (x, y) whose x are dicts of modalities, without what their clients do not have.

    Like the data set that it wraps, it gives a sample for an index and, if that does, a batch for a list of
    them. A modality that a sample lacks is zeros, in a copy, and its `x["present"]` is False.

    Args:
        dataset: the data as they are.
        modalities: names of the modalities, M.
        there: whether each row keeps each modality (rows, M).
        labels: wrong labels (rows,), -1 for the rows that keep theirs; `None` if no label is wrong.
        shown: names of the modalities that stay in x.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        modalities: Sequence[str],
        there: np.ndarray,
        labels: np.ndarray | None,
        shown: Sequence[str],
    ) -> None:
        self.dataset: Any = dataset
        self.modalities, self.shown = tuple(modalities), tuple(shown)
        self.there, self.labels = there, labels

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        """Returns one sample; for a list, a batch or a list of samples, as the data set gives it."""
        found = self.dataset[index]
        if not isinstance(index, list):
            return self._leave(found, _item(index))
        if isinstance(found[0], dict):
            return self._leave(found, [_item(one) for one in index])
        return [self._leave(sample, _item(one)) for sample, one in zip(found, index, strict=True)]

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        """Returns a list of samples."""
        many = getattr(self.dataset, "__getitems__", None)
        samples = many(indices) if many else [self.dataset[index] for index in indices]
        return [self._leave(sample, _item(index)) for sample, index in zip(samples, indices, strict=True)]

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """Counts how many of some rows have each modality, shown or not."""
        has = self.there[rows].sum(0).tolist()
        return {name: n if name in self.shown else 0 for name, n in zip(self.modalities, has, strict=True)}

    def joined(self, others: Sequence["Planned"]) -> "Planned":
        """Returns the same rows, with the modalities that any of these data sets shows."""
        twin = copy.copy(self)
        shown = {name for one in (self, *others) for name in one.shown}
        twin.shown = tuple(name for name in self.modalities if name in shown)
        return twin

    def _leave(self, pair: Any, rows: int | list[int]) -> Any:
        """Returns the sample of a row, or the batch of a list of rows, without what is missing."""
        x, y, *rest = pair
        given, there = x.get(PRESENT, {}), torch.from_numpy(self.there)[rows]
        left: dict[str, Any] = {}
        present: dict[str, Tensor] = {}
        for name in self.shown:
            value = torch.as_tensor(x[name])
            here = there[..., self.modalities.index(name)] & torch.as_tensor(given.get(name, True))
            wide = here.reshape(here.shape + (1,) * (value.ndim - here.ndim))
            left[name], present[name] = value if here.all() else value.masked_fill(~wide, 0), here
        if not torch.stack(list(present.values())).any(0).all():
            raise ValueError(
                f"{type(self.dataset).__name__} has samples of which nothing is left, without having told: its first "
                f"sample must have x[{PRESENT!r}] if any has, or give the data set a dict `{PRESENT}`."
            )
        sample = [left | {PRESENT: present}, self._label(y, rows), *rest]
        return sample if isinstance(pair, list) else tuple(sample)

    def _label(self, y: Any, rows: int | list[int]) -> Any:
        if self.labels is None:
            return y
        wrong = torch.from_numpy(self.labels)[rows]
        if isinstance(rows, list) or isinstance(y, Tensor):
            right = torch.as_tensor(y)
            return torch.where(wrong >= 0, wrong.to(right.dtype), right)
        return y if wrong < 0 else type(y)(wrong.item())  # y is an int, or numpy's


def _item(index: Any) -> int:
    """Returns the row that an index asks for."""
    return int(index.item if isinstance(index, Key) else index)
