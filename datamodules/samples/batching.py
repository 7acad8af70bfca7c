"""Batches from rows of a data set as a DataLoader makes them, without a DataLoader where that is slow."""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate
from torch.utils.data._utils.collate import default_convert

from lkd.datamodules.classification.classification_datamodule import collate_pair
from lkd.datamodules.samples.crew import Crew
from lkd.datamodules.samples.samplers import CameraBatchSampler, IndexBatchSampler, Key

BLOCK = 64  # batches that are gathered from tensors at once
SPARE = np.random.MT19937(0)
PAIRS: dict[Callable[..., Any], Callable[..., Any]] = {default_collate: list, collate_pair: tuple}


class BatchTask(NamedTuple):
    """A batch to fetch, with all that it depends on."""

    seed: int
    number: int  # number of the batch
    rows: list[Any]  # indices, or `Key`s


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seeds the CPU's global random states from `numbers` inside the block, and restores them after it."""
    seed = np.random.SeedSequence(numbers).generate_state(1)[0].item()
    legacy: Any = np.random
    before = torch.get_rng_state(), legacy.get_bit_generator(), random.getstate()
    try:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the accelerators, too
        legacy.set_bit_generator(SPARE)  # ten times faster than saving NumPy's state
        legacy.seed(seed)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(before[0])
        legacy.set_bit_generator(before[1])
        random.setstate(before[2])


class Batching(Dataset[Any]):
    """The part of a `DataLoader` that does not depend on which rows are asked for.

    It serves lkd's own loaders, whose sampler yields batches of indices or of `Key`s with the seed as the
    epoch. It also serves any ordinary loader over a map-style data set, whose sampler is not used. With
    `num_workers=0`, batches are fetched in plain Python; tensors are gathered many batches at once. Where
    samples may draw from the global random states (transforms), these are seeded from (seed, number of the
    batch) around every batch and put back. So batches depend neither on them nor on the workers, which stay
    from pass to pass (see `Crew`).

    Args:
        loader: the loader that gives data set, collation, batch size, `drop_last` and workers.
        batch_size: `None` for the loader's own.
        dataset: another data set with the same kind of samples; `None` for the loader's own.

    Raises:
        ValueError: for a streamed data set, or a loader without a batch size.

    Example:
        >>> loader = DataLoader(TensorDataset(torch.arange(5)), batch_size=2)
        >>> [batch[0].tolist() for batch in Batching(loader).ordered(np.array([4, 0, 2]))]
        [[4, 0], [2]]
    """

    def __init__(
        self, loader: DataLoader, batch_size: int | None = None, dataset: Dataset[Any] | None = None
    ) -> None:
        data: Any = loader.dataset if dataset is None else dataset
        self.dataset: Any = data
        if isinstance(data, IterableDataset) or not hasattr(type(data), "__len__"):
            what = "is a stream" if isinstance(data, IterableDataset) else "has no length, __len__"
            raise ValueError(
                f"{type(data).__name__} {what}: clients need a data set with numbered samples, which has __len__ and "
                "__getitem__; read a stream into a list first."
            )
        sampler: Any = loader.sampler
        self.sampler = sampler if isinstance(sampler, CameraBatchSampler) else None
        theirs = getattr(sampler if self.sampler else loader.batch_sampler, "batch_size", None)
        if not (size := batch_size or theirs):
            raise ValueError("the loader of the data has no batch_size: give batch_size= here.")
        self.batch_size: int = size
        self.drop_last = bool(loader.drop_last or getattr(loader.batch_sampler, "drop_last", False))
        self.collate: Callable[..., Any] = loader.collate_fn
        if self.sampler is None and self.collate is default_convert:  # the loader did not batch
            self.collate = default_collate
        self.carry: Callable[[Any], Any] | None = None  # applied to a batch on its way to a client
        self.workers: dict[str, Any] = {}
        if loader.num_workers:
            names = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "prefetch_factor")
            self.workers = {name: getattr(loader, name) for name in names}
            self.workers["multiprocessing_context"] = loader.multiprocessing_context
        self._by_list = self.sampler is not None or self.collate is collate_pair
        self._tensors, self._indices, self._join = self._as_tensors()
        self._group: np.ndarray | None = None  # the group of every row, if batches hold one group only
        if self.sampler and (len(self.sampler.groups) > 1 or not isinstance(sampler, IndexBatchSampler)):
            self._group = np.zeros(len(data), dtype=np.int64)
            for number, rows in enumerate(self.sampler.groups):
                self._group[rows] = number
        self._crew = self._hire()

    def over(self, dataset: Dataset[Any]) -> "Batching":
        """Returns the same batching over another data set with the same rows."""
        twin = copy.copy(self)
        twin.dataset = dataset
        twin._tensors, twin._indices, twin._join = twin._as_tensors()
        twin._crew = twin._hire()
        return twin

    def joined(self, others: Sequence["Batching"]) -> "Batching":
        """Returns the batching of the same rows with the modalities that any of these shows."""
        if not hasattr(self.dataset, "joined"):
            return self
        return self.over(self.dataset.joined([other.dataset for other in others]))

    def count(self, rows: np.ndarray) -> int:
        """Returns the number of batches of one shuffled pass over `rows`."""
        if self.sampler is not None and self._group is not None:
            held = np.unique(self._group[rows], return_counts=True)[1]
            each = self.sampler.batches_per_camera
            return len(held) * each if each else int((-(-held // self.batch_size)).sum())
        return len(rows) // self.batch_size if self.drop_last else -(-len(rows) // self.batch_size)

    def smallest(self, rows: np.ndarray, ordered: bool = False) -> int:
        """Returns the size of the smallest batch of one pass over `rows`, shuffled or in order.

        0 if there is none.
        """
        held = [len(rows)]
        if self.sampler is not None and self._group is not None:
            if self.sampler.batches_per_camera and not ordered:
                return self.batch_size
            held = np.unique(self._group[rows], return_counts=True)[1].tolist()
        if self.drop_last and self._group is None and not ordered:
            return self.batch_size if held[0] >= self.batch_size else 0
        return min((n % self.batch_size or min(n, self.batch_size) for n in held), default=self.batch_size)

    def shuffled(self, rows: np.ndarray, seed: int) -> Iterator[Any]:
        """Yields one pass in an order, and with augmentations, that depend on `seed` alone."""
        seed &= (1 << 63) - 1
        if self._group is not None:
            sampler = self._sampler(rows)
            sampler.set_epoch(seed)
            return self._fetch_all([BatchTask(seed, k, batch) for k, batch in enumerate(sampler)])
        return self._pass(self._order(rows, seed), seed, self.batch_size)

    def _order(self, rows: np.ndarray, seed: int) -> np.ndarray:
        order = np.random.default_rng(seed).permutation(rows)
        return order[: len(rows) // self.batch_size * self.batch_size] if self.drop_last else order

    def row_numbers(self, rows: np.ndarray, seed: int) -> list[np.ndarray] | None:
        """Returns what `gathered` takes for each batch of `shuffled`; None where batches are more than rows."""
        if self._tensors is None or self._group is not None or self.carry is not None:
            return None
        order = self._order(rows, seed & ((1 << 63) - 1))
        if self._indices is not None:
            order = self._indices.numpy()[order]
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def gathered(self, numbers: Tensor) -> Any:
        """Returns the batch of these row numbers, or for numbers `(K, B)` those of K clients, each tensor `(K, B, ...)`."""
        return self._join([tensor[numbers] for tensor in self._tensors or ()])

    def places(self, rows: np.ndarray, seed: int) -> list[np.ndarray]:
        """Returns which of `rows` are in each batch of `shuffled`, as places in `rows`.

        Raises:
            ValueError: where batches hold rows of one group only, and these rows are of several: `ordered`
                gives them group by group then, so that no place in `rows` is one in what it gives.
        """
        if self._group is not None:
            if (held := len(np.unique(self._group[rows]))) > 1:
                raise ValueError(
                    f"the samples of a client are of {held} cameras or groups, and batches are of one each, so the places of samples in "
                    "them are not known: let batches mix groups (one_camera_per_batch=false), or give each client one."
                )
            sampler, place = self._sampler(rows), {row: k for k, row in enumerate(rows.tolist())}
            sampler.set_epoch(seed & ((1 << 63) - 1))
            batches: list[list[Any]] = list(sampler)
            return [
                np.array([place[key.item if isinstance(key, Key) else key] for key in batch])
                for batch in batches
            ]
        order = np.random.default_rng(seed & ((1 << 63) - 1)).permutation(np.arange(len(rows)))
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)][
            : self.count(rows)
        ]

    def ordered(self, rows: np.ndarray) -> Iterator[Any]:
        """Yields every row once, in order, in batches of the same size (and of one group, if batches are)."""
        if self._group is None:
            return self.exactly(rows, self.batch_size)
        return self._fetch_all(self._tasks(self._groups(rows), 0, self.batch_size))

    def exactly(self, rows: np.ndarray, batch_size: int) -> Iterator[Any]:
        """Yields these rows in this order, in batches of this size, whatever their groups."""
        return self._pass(rows, 0, batch_size)

    def tasks(self, rows: np.ndarray, batch_size: int) -> list[BatchTask]:
        """Lists what `exactly` fetches, in order."""
        return self._tasks([rows.tolist()], 0, batch_size)

    def __getitem__(self, task: BatchTask) -> Any:
        """Returns the batch of a task."""
        if self._by_list:  # lkd's sets, which do not draw from the global random states
            return self._join(self.dataset[task.rows])
        with seeded(task.seed, task.number):
            if hasattr(self.dataset, "__getitems__"):
                return self.collate(self.dataset.__getitems__(task.rows))
            return self.collate([self.dataset[row] for row in task.rows])

    @property
    def _keyed(self) -> bool:
        return self.sampler is not None and not isinstance(self.sampler, IndexBatchSampler)

    def _groups(self, rows: np.ndarray) -> list[list[int]]:
        """Returns the rows of every group, each in the given order."""
        assert self._group is not None
        groups = self._group[rows]
        return [rows[groups == number].tolist() for number in np.unique(groups)]

    def _sampler(self, rows: np.ndarray) -> CameraBatchSampler:
        """Returns a sampler of the loader's kind over these rows alone."""
        theirs: Any = self.sampler
        groups, each = self._groups(rows), theirs.batches_per_camera
        return type(theirs)(groups, self.batch_size, each, theirs.seed, views=theirs.views)

    def _tasks(self, groups: list[list[int]], seed: int, size: int) -> list[BatchTask]:
        """Returns tasks for batches of one group each, in order."""
        keys: list[list[Any]] = list(groups)
        if self._keyed:
            keys = [[Key(0, 0, row) for row in group] for group in groups]
        batches = [group[i : i + size] for group in keys for i in range(0, len(group), size)]
        return [BatchTask(seed, number, batch) for number, batch in enumerate(batches)]

    def _pass(self, order: np.ndarray, seed: int, size: int) -> Iterator[Any]:
        """Yields batches of rows in this order."""
        if self._tensors is not None:
            return self._gathered(torch.from_numpy(order), size)
        return self._fetch_all(self._tasks([order.tolist()], seed, size))

    def _gathered(self, order: Tensor, size: int) -> Iterator[Any]:
        """Yields batches cut from blocks of tensors, which costs microseconds for each batch."""
        if self._indices is not None:
            order = self._indices[order]
        for block in order.split(size * BLOCK):
            parts = [tensor[block].split(size) for tensor in self._tensors or ()]
            yield from self._carried(map(self._join, zip(*parts, strict=True)))

    def _fetch_all(self, tasks: list[BatchTask]) -> Iterator[Any]:
        if not self.workers or not tasks:
            return self._carried(map(self.__getitem__, tasks))
        return self._carried(self._crew.fetch(tasks))

    def _carried(self, batches: Iterator[Any]) -> Iterator[Any]:
        return batches if self.carry is None else map(self.carry, batches)

    def _hire(self) -> Crew:
        """Starts workers with a copy that has no reference to them, which would keep them alive."""
        bare = copy.copy(self)
        bare.carry = None  # applied here, to what the workers return
        vars(bare).pop("_crew", None)
        return Crew(bare, self.workers)

    def dismiss(self) -> None:
        """Ends the worker processes; the next pass starts new ones."""
        self._crew.dismiss()

    def _as_tensors(self) -> tuple[tuple[Tensor, ...] | None, Tensor | None, Callable[..., Any]]:
        """Returns the tensors of a `TensorDataset` (or a subset of one), if collating changes nothing."""
        base, indices = self.dataset, None
        while type(base) is Subset:
            theirs = torch.as_tensor(np.asarray(base.indices))
            base, indices = base.dataset, theirs if indices is None else theirs[indices]
        join = self.collate if self.sampler else PAIRS.get(self.collate)
        usable = type(base) is TensorDataset and join is not None and not self._keyed
        return (base.tensors if usable else None), indices, join or self.collate
