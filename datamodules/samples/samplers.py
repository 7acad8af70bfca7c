"""Batches of one camera at a time, a pure function of (seed, epoch), shared equally by the ranks."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler

from lkd.checks import expect


class Key(NamedTuple):
    """Key of a sample, handed to the data set: everything that the random view of a frame depends on."""

    epoch: int
    lap: int  # which pass over its camera within the epoch: a frame drawn twice is seen in two views
    item: int  # index in the data set


class CameraBatchSampler(DistributedSampler):
    """Sampler of batches of `Key`, each from one group (camera), the groups interleaved in shuffled order.

    Give it to an `EpochLoader` as `sampler=` with `batch_size=None`. It then sits where Lightning looks:
    Lightning calls `set_epoch` on it before every epoch (also the first one after a resume), and does not
    replace it under DDP because it is a `DistributedSampler` (no `use_distributed_sampler=False`
    needed). The epoch is part of the keys, so persistent workers always know the current one.

    Args:
        groups: the dataset indices of every camera, e.g. `[[0, 1, 2], [3, 4]]`. Empty groups are skipped.
        batch_size: frames in a batch. The last batch of a camera may be smaller (only without
            `batches_per_camera`).
        batches_per_camera: this many full batches of every camera in an epoch, whatever its number of frames;
            a camera with too few frames is passed over again in a new order. `None`: every frame once.
        seed: the order depends on (seed, epoch) only, not on the global random state.
        num_replicas: number of processes. All get the same number of batches; where the total does not
            divide, the first batches of the epoch are given out twice.
        rank: which of these processes this is.
        views: number of epochs that the keys repeat, so that this many views of a frame are drawn and come
            again, in another order. `None`: every epoch draws new views.

    Raises:
        ValueError: if there is no frame at all, or a number is out of its range.

    Example:
        >>> sampler = CameraBatchSampler([[0, 1, 2], [3, 4]], batch_size=2)
        >>> sampler.set_epoch(1)
        >>> sorted(len(batch) for batch in sampler)
        [1, 2, 2]
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        batch_size: int,
        batches_per_camera: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        views: int | None = None,
    ) -> None:
        self.groups = [list(group) for group in groups if len(group)]
        if not self.groups:
            raise ValueError("groups holds no frame at all: there is nothing to draw batches from.")
        expect(batch_size=batch_size, ge=1)
        expect(batches_per_camera=batches_per_camera, ge=1, none="all frames")
        expect(seed=seed, ge=0)
        expect(views=views, ge=1, none="new ones in every epoch")
        self.views = views
        everything: Any = [index for group in self.groups for index in group]
        super().__init__(everything, num_replicas=num_replicas, rank=rank, seed=seed)
        self.batch_size = batch_size
        self.batches_per_camera = batches_per_camera
        if batches_per_camera is None:
            total = sum(-(-len(group) // batch_size) for group in self.groups)
        else:
            total = batches_per_camera * len(self.groups)
        self.batches_per_rank = -(-total // num_replicas)

    def __len__(self) -> int:
        """Returns the number of batches of this rank in an epoch."""
        return self.batches_per_rank

    def _draw(self, group: list[int], rng: np.random.Generator) -> list[Key]:
        """Draws the frames of one camera for one epoch, in order."""
        epoch = self.epoch if self.views is None else self.epoch % self.views
        if self.batches_per_camera is None:
            return [Key(epoch, 0, group[i]) for i in rng.permutation(len(group))]
        wanted = self.batches_per_camera * self.batch_size
        laps = -(-wanted // len(group))
        keys = [Key(epoch, lap, group[i]) for lap in range(laps) for i in rng.permutation(len(group))]
        return keys[:wanted]

    def __iter__(self) -> Iterator[list[Key]]:
        """Yields the batches of this rank in the epoch that `set_epoch` has set last."""
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = []
        for group in self.groups:
            keys = self._draw(group, rng)
            batches += [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)]
        order = [batches[i] for i in rng.permutation(len(batches))]
        total = self.batches_per_rank * self.num_replicas
        return iter([order[i % len(order)] for i in range(self.rank, total, self.num_replicas)])


class IndexBatchSampler(CameraBatchSampler):
    """Sampler of batches of plain indices, for data sets whose samples are the same in every epoch.

    Example:
        >>> sorted(map(len, IndexBatchSampler([range(5)], batch_size=2)))
        [1, 2, 2]
    """

    def __iter__(self) -> Iterator[list[int]]:  # type: ignore[override]
        """Yields the batches of this rank in the epoch that `set_epoch` has set last."""
        return iter([[key.item for key in batch] for batch in super().__iter__()])


class EpochLoader(DataLoader):
    """`DataLoader` that begins an epoch when its first batch is asked for, not when the iterator is made.

    On resume Lightning makes the first iterator before it tells the sampler the epoch, and workers would at
    once begin to load the batches of epoch 0.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields the batches of the epoch that is set when the first is asked for."""
        yield from super().__iter__()
