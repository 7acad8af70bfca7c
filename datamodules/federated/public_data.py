"""Public data: samples that all clients have, and about which they exchange knowledge."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lkd.batches import LABELS
from lkd.checks import expect
from lkd.datamodules.samples.batching import Batching
from lkd.datamodules.samples.unused_samplers import warn_of_sampler


class PublicData:
    """Samples that are named by their numbers, without augmentation; none of them is kept in memory.

    Inputs are the x of batches (x, y), and dicts without the entries that are named as labels
    (`lkd.batches.LABELS`).

    Args:
        batching: how batches are made.
        rows: which of its rows are public; sample k is row `rows[k]`.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> pairs = TensorDataset(torch.arange(6.0), torch.arange(6) % 2)
        >>> public = PublicData(Batching(DataLoader(pairs)), np.array([1, 3, 5]))
        >>> len(public), list(public.batches([2, 0, 2], batch_size=2))
        (3, [tensor([5., 1.]), tensor([5.])])
        >>> list(public.labeled([2], batch_size=2))
        [[tensor([5.]), tensor([1])]]
    """

    def __init__(self, batching: Batching, rows: np.ndarray) -> None:
        self._batching, self._rows = batching, rows

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self._rows)

    def batches(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[Any]:
        """Yields the inputs of these samples, in this order, without labels.

        A batch is made when it is asked for.

        Args:
            rows: numbers of samples, from 0; one may come more than once.
            batch_size: samples in a batch; the last one may be smaller.

        Returns:
            Tensors (B, ...), or dicts.

        Raises:
            ValueError: for a number that no sample has, or a batch size below 1.
        """
        return map(inputs, self._fetch(rows, batch_size))

    def whole(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[Any]:
        """Yields the same batches as the data set gives them, for callers that know the inputs."""
        return self._fetch(rows, batch_size)

    def labeled(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[Any]:
        """Yields the same batches with the data set's labels: (x, y), or dicts.

        For an algorithm that learns these labels, as `FedMD(pretrain=10)`; all others use `batches`. Labels
        of another data set are its own: its class 3 need not be the clients' class 3.

        Raises:
            ValueError: also where there are no labels.
        """
        if not _has_labels(self._first()):
            name = type(self._batching.dataset).__name__
            raise ValueError(f"the public data ({name}) have no labels.")
        return self._fetch(rows, batch_size)

    def carry_by(self, carry: Callable[[Any], Any]) -> None:
        """Sends all batches, with labels if they have some, through this function before use."""
        self._batching.carry = carry

    def loader(self) -> DataLoader:
        """Returns a loader of all inputs in order, as from `batches`, in batches of the data's own size."""
        tasks = self._batching.tasks(self._rows, self._batching.batch_size)
        # the hook that carries a batch to the device cannot do so from another process
        workers = self._batching.workers if self._batching.carry is None else {}
        return DataLoader(_Inputs(self._batching, tasks), batch_size=None, **workers)

    def dismiss(self) -> None:
        """Ends the worker processes; the next pass starts new ones."""
        self._batching.dismiss()

    def check_like(self, clients: Batching) -> None:
        """Compares one sample with one of the clients'.

        Tensors must have the same shape. Those in dicts, where frames differ in size, must have the same
        number of dimensions and channels.

        Raises:
            ValueError: if clients could not have such inputs; the message says both shapes.
        """
        theirs = inputs(clients[clients.tasks(np.zeros(1, dtype=np.int64), 1)[0]])
        ours = inputs(self._first())
        if not _alike(ours, theirs):
            raise ValueError(
                f"the public data have inputs {_shape(ours)}, and the clients' data {_shape(theirs)}: their "
                "shapes must agree."
            )

    def _fetch(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[Any]:
        expect(batch_size=batch_size, ge=1)
        numbers = np.asarray(rows)
        if not len(numbers):
            return iter(())
        if numbers.dtype.kind not in "iu":
            raise ValueError(f"rows must be whole numbers, the numbers of samples, not {numbers.dtype}.")
        for number in (numbers.min(), numbers.max()):
            if not 0 <= number < len(self):
                raise ValueError(f"rows: there is no public sample {number}; they are 0 to {len(self) - 1}.")
        return self._batching.exactly(self._rows[numbers], batch_size)

    def _first(self) -> Any:
        """Returns a batch of the first sample, loaded in this process."""
        return self._batching[self._batching.tasks(self._rows[:1], 1)[0]]


class _Inputs(Dataset[Any]):
    """Data set with one batch for every task, without labels."""

    def __init__(self, batching: Batching, tasks: Sequence[Any]) -> None:
        self.batching, self.tasks = batching, tasks

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, number: int) -> Any:
        batch, carry = self.batching[self.tasks[number]], self.batching.carry
        return inputs(batch if carry is None else carry(batch))


def open_public(data: LightningDataModule, batch_size: int | None = None) -> PublicData:
    """Opens the training set of a data module that is set up, as in evaluation (its `plain`, if it exists).

    Args:
        data: any data module with one training loader over a map-style data set.
        batch_size: batch size of `PublicData.loader`; `None` for that of the data module.

    Raises:
        ValueError: for a stream, several loaders, or no sample at all.
    """
    name = type(data).__name__
    loader = data.train_dataloader()
    if not isinstance(loader, DataLoader):
        raise ValueError(f"public={name} gives a {type(loader).__name__} to train on, not one DataLoader.")
    if isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            f"public={name} is a stream: public data need numbered samples, a map-style data set."
        )
    batching = Batching(loader, batch_size, getattr(loader.dataset, "plain", None))
    warn_of_sampler(loader, f"public={name}")
    if not len(batching.dataset):
        raise ValueError(f"public={name} is empty: it must hold one sample at least.")
    return PublicData(batching, np.arange(len(batching.dataset)))


def inputs(batch: Any) -> Any:
    """Returns what a model sees of a batch: the x of (x, y), or a dict without labels.

    Example:
        >>> inputs(("x", "y")), inputs({"images": "x", "targets": "y"})
        ('x', {'images': 'x'})
    """
    if isinstance(batch, dict):
        return {name: value for name, value in batch.items() if name not in LABELS}
    return batch[0] if isinstance(batch, list | tuple) else batch


def _has_labels(batch: Any) -> bool:
    if isinstance(batch, dict):
        return any(name in batch for name in LABELS)
    return isinstance(batch, list | tuple) and len(batch) > 1


def _tensors(x: Any) -> dict[str, Tensor]:
    return {name: value for name, value in x.items() if isinstance(value, Tensor)}


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return ours.shape[1:] == theirs.shape[1:]
    if isinstance(ours, dict) and isinstance(theirs, dict):
        a, b = _tensors(ours), _tensors(theirs)
        common = a.keys() & b.keys()
        return bool(common) and all(
            a[name].ndim == b[name].ndim and (a[name].ndim < 4 or a[name].shape[1] == b[name].shape[1])
            for name in common
        )
    return type(ours) is type(theirs)


def _shape(x: Any) -> str:
    """Returns the shape of one sample as text for messages."""
    if isinstance(x, Tensor):
        return f"of shape {tuple(x.shape[1:])}"
    if isinstance(x, dict):
        return f"{{{', '.join(f'{name}: {tuple(value.shape[1:])}' for name, value in _tensors(x).items())}}}"
    return f"of type {type(x).__name__}"
