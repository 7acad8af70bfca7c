"""Samples of several modalities, held in memory."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lkd.modalities import PRESENT


class ChannelMoments(NamedTuple):
    """Mean and deviation of every channel of one modality."""

    mean: Tensor  # (C,)
    std: Tensor  # (C,)


class ModalitySet(Dataset[tuple[dict[str, Any], Tensor]]):
    """Samples (x, y), x a dict of tensors by modality: an index gives one, a list of indices a batch.

    If some sample lacks a modality, x also has an entry "present": a dict with bools (B,) for each modality.
    What is absent is zeros.

    Args:
        x: tensors (N, C, ...) by modality.
        y: (N,) int64.
        present: bools (N,) by modality; `None` if every sample has all.
        columns: metadata, N values each, for partitions; "label" is added.

    Example:
        >>> data = ModalitySet({"acc": torch.ones(4, 3, 8), "gyro": torch.ones(4, 3, 8)}, torch.arange(4))
        >>> x, y = data[[3, 1]]
        >>> x["gyro"].shape, y, data.columns["label"]
        (torch.Size([2, 3, 8]), tensor([3, 1]), array([0, 1, 2, 3]))
    """

    def __init__(
        self,
        x: Mapping[str, Tensor],
        y: Tensor,
        present: Mapping[str, Tensor] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        self.x, self.y, self.present = dict(x), y, present
        for name, there in (present or {}).items():
            self.x[name] = torch.where(_along(there, self.x[name], 0), self.x[name], 0.0)
        self.columns = {
            "label": y.numpy(),
            **{k: np.asarray(values) for k, values in (columns or {}).items()},
        }

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.y)

    def __getitem__(self, index: int | list[int]) -> tuple[dict[str, Any], Tensor]:
        """Returns one sample for an index, or one batch for a list."""
        x: dict[str, Any] = {name: values[index] for name, values in self.x.items()}
        if self.present is not None:
            x[PRESENT] = {name: there[index] for name, there in self.present.items()}
        return x, self.y[index]

    def rows(self, rows: np.ndarray) -> "ModalitySet":
        """Returns some of the samples as a set."""
        x = {name: values[rows] for name, values in self.x.items()}
        present = self.present and {name: there[rows] for name, there in self.present.items()}
        return ModalitySet(x, self.y[rows], present, {name: v[rows] for name, v in self.columns.items()})

    def moments(self) -> dict[str, ChannelMoments]:
        """Computes mean and deviation of every channel of every modality, over the samples that have it.

        Raises:
            ValueError: if no sample has a modality, or one has a value that is not finite, which would spoil
                all of them.
        """
        found = {}
        for name, values in self.x.items():
            known = values[self.present[name]] if self.present and name in self.present else values
            if not len(known):
                raise ValueError(f"no training sample has {name}, so it cannot be normalized.")
            if len(bad := (~known.flatten(1).isfinite()).any(1).nonzero()):
                raise ValueError(
                    f"{name} of {len(bad)} of {len(known)} training samples is not finite (the first is number {int(bad[0])} of "
                    "those that have it): leave these samples out, or mark them as absent."
                )
            flat = known.transpose(0, 1).flatten(1).double()  # float32 would lose digits over so many numbers
            std = flat.std(1, correction=0)
            # a channel that never changes is only centered
            found[name] = ChannelMoments(flat.mean(1).float(), torch.where(std > 1e-6, std, 1.0).float())
        return found

    def normalized(self, moments: Mapping[str, ChannelMoments]) -> "ModalitySet":
        """Returns the same samples, minus the mean and divided by the deviation."""
        x = {
            name: (values - _along(moments[name].mean, values, 1)) / _along(moments[name].std, values, 1)
            for name, values in self.x.items()
        }
        return ModalitySet(x, self.y, self.present, self.columns)


def _along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """Reshapes a vector along an axis of a tensor, so that it broadcasts over the others."""
    return values.reshape([-1 if k == axis else 1 for k in range(like.ndim)])
