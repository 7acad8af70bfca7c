"""The clients of a federation: which rows of a data set each one holds, and the batches made of them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from torch.utils.data import Dataset

from lkd.datamodules.federated.public_data import PublicData
from lkd.datamodules.modalities.modality_mask import Planned
from lkd.datamodules.samples.batching import Batching


class Ragged:
    """Many index arrays, stored as one flat array and where each begins: 100,000 of them cost two arrays.

    Args:
        arrays: the index arrays.

    Example:
        >>> ragged = Ragged([np.array([3, 1]), np.array([2])])
        >>> ragged[0], ragged.sizes
        (array([3, 1]), array([2, 1]))
    """

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.flat = np.concatenate([np.zeros(0, dtype=np.int64), *arrays]).astype(np.int64, copy=False)
        self.sizes = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        self._ends = np.cumsum(self.sizes)

    def __len__(self) -> int:
        """Returns the number of arrays."""
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Returns one array, as a view."""
        end = self._ends[number]
        return self.flat[end - self.sizes[number] : end]


class Part(NamedTuple):
    """Rows of every client in one data set, with the way that batches are made."""

    batching: Batching
    rows: Ragged
    views: Sequence[Batching] = ()  # how batches are made for each kind of client, if kinds differ
    kinds: Sequence[int] | np.ndarray = ()  # the kind of every client

    def of(self, client: int) -> tuple[Batching, np.ndarray]:
        """Returns how a client's batches are made, and its rows."""
        return self.views[self.kinds[client]] if self.views else self.batching, self.rows[client]


class ClientShard:
    """A client: its rows of the training data, and of validation and test data where it has any.

    Args:
        id: number of the client, 0 <= id < number of clients.
        name: name such as "C1"; the number if clients have no names.
        share: its number of samples as a share of all clients'.
        probability: chance to be in a cohort.
        parts: for each part "train", "val", "test", how batches are made, and the rows; `num_samples` counts
            the training rows.
        population: number of all clients.
        public: the data that all clients have; one object that all of them share.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> batching = Batching(DataLoader(TensorDataset(torch.arange(6)), batch_size=2))
        >>> shard = ClientShard(0, "C1", 0.5, 1.0, {"train": (batching, np.array([1, 3, 5]))})
        >>> shard.num_samples, shard.num_batches(), len(list(shard.train_batches(seed=7)))
        (3, 2, 2)
    """

    # no dataclass: Lightning takes those apart when it moves a batch to a device
    __slots__ = ("id", "name", "num_samples", "parts", "population", "probability", "public", "share")

    def __init__(
        self,
        id: int,
        name: str,
        share: float,
        probability: float,
        parts: Mapping[str, tuple[Batching, np.ndarray]],
        population: int = 1,
        public: PublicData | None = None,
    ) -> None:
        self.id, self.name, self.share, self.probability = id, name, share, probability
        self.parts, self.num_samples = parts, len(parts["train"][1])
        self.population, self.public = population, public

    def num_batches(self) -> int:
        """Returns the number of batches in one local epoch."""
        batching, rows = self.parts["train"]
        return batching.count(rows)

    def smallest_batch(self, ordered: bool = False) -> int:
        """Returns the size of the smallest batch of `train_batches`, or of `ordered_batches("train")`."""
        batching, rows = self.parts["train"]
        return batching.smallest(rows, ordered)

    def train_batches(self, seed: int) -> Iterable[Any]:
        """Yields one shuffled and augmented pass, a function of `seed` alone."""
        batching, rows = self.parts["train"]
        return batching.shuffled(rows, seed)

    def train_rows(self, seed: int) -> tuple[Batching, list[np.ndarray]] | None:
        """Returns the rows of each batch of `train_batches`, and what gathers them.

        None where a batch is more than rows of tensors, as where samples are read or augmented.
        """
        batching, rows = self.parts["train"]
        numbers = batching.row_numbers(rows, seed)
        return None if numbers is None else (batching, numbers)

    def train_places(self, seed: int) -> list[np.ndarray]:
        """Returns, for each batch of `train_batches`, its samples' places in `ordered_batches("train")`.

        Raises:
            ValueError: where batches hold samples of one camera or group only.
        """
        batching, rows = self.parts["train"]
        return batching.places(rows, seed)

    def ordered_batches(self, part: str) -> Iterable[Any]:
        """Yields every sample of "train", "val" or "test" once, in order.

        Raises:
            ValueError: if the client has no such part.
        """
        if not self.has(part):
            raise ValueError(
                f"client {self.name!r} has no {part} data, only {', '.join(map(repr, self.parts))}: give "
                "client_fractions, or partition by a column that the data's own splits have, too."
            )
        batching, rows = self.parts[part]
        return batching.ordered(rows)

    def has(self, part: str) -> bool:
        """Returns whether there is any sample in "train", "val" or "test"."""
        return part in self.parts

    @property
    def present(self) -> dict[str, int]:
        """Number of training samples with each modality, 0 for one not owned.

        The dict is empty without a `ModalityPlan`.
        """
        batching, rows = self.parts["train"]
        return batching.dataset.counts(rows) if isinstance(batching.dataset, Planned) else {}

    def pooled(self, others: Sequence["ClientShard"]) -> "ClientShard":
        """Returns one client with the samples of this one and the others, in the order of their ids."""
        members = [client for _, client in sorted({client.id: client for client in (self, *others)}.items())]
        parts = {}
        for part in dict.fromkeys(part for client in members for part in client.parts):
            held = [client.parts[part] for client in members if client.has(part)]
            batching = held[0][0].joined([other for other, _ in held[1:]])
            parts[part] = batching, np.concatenate([rows for _, rows in held])
        return ClientShard(
            members[0].id, "pooled", sum(client.share for client in members), 1.0, parts, public=self.public
        )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part}={len(rows)}" for part, (_, rows) in self.parts.items())
        return f"ClientShard({self.id}, {self.name!r}, {sizes})"


class Population(Dataset[Any]):
    """All clients; a `ClientShard` is made when it is asked for, so that there can be 100,000 of them.

    An index gives a client, a list of indices a cohort.

    Args:
        train: how training batches are made, and the rows of every client.
        names: names of the clients; `None` for their numbers.
        probabilities: chance of every client to be in a cohort.
        public: the data that all clients have.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> batching = Batching(DataLoader(TensorDataset(torch.arange(6)), batch_size=2))
        >>> clients = Population(Part(batching, Ragged([np.arange(4), np.arange(4, 6)])), ["C1", "C2"])
        >>> clients[[0, 1]], clients[1].share
        ([ClientShard(0, 'C1', train=4), ClientShard(1, 'C2', train=2)], 0.333...)
    """

    def __init__(
        self,
        train: Part,
        names: Sequence[str] | None = None,
        probabilities: np.ndarray | None = None,
        public: PublicData | None = None,
    ) -> None:
        self.parts: dict[str, Part] = {"train": train}
        self._names = names
        self.probabilities, self.public = probabilities, public
        self.sizes = train.rows.sizes
        self._total = int(self.sizes.sum())

    @property
    def names(self) -> list[str]:
        """Names of all clients."""
        return list(map(str, range(len(self)) if self._names is None else self._names))

    @property
    def row_digest(self) -> str:
        """A hash of all clients' training rows, which tells one deal from another of the same sizes."""
        return hashlib.sha256(np.asarray(self.parts["train"].rows.flat, dtype=np.int64).tobytes()).hexdigest()

    def dismiss(self) -> None:
        """Ends the worker processes of all data; the next pass starts new ones."""
        for part in self.parts.values():
            for batching in (part.batching, *part.views):
                batching.dismiss()
        if self.public is not None:
            self.public.dismiss()

    def __len__(self) -> int:
        """Returns the number of clients."""
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> ClientShard: ...
    @overload
    def __getitem__(self, index: list[int]) -> list[ClientShard]: ...
    def __getitem__(self, index: int | list[int]) -> ClientShard | list[ClientShard]:
        """Returns one client for an index, or the clients of a cohort for a list."""
        if isinstance(index, list):
            return [self[one] for one in index]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no client {index}: the last of {len(self)} is {len(self) - 1}.")
        number = int(index) % len(self)
        parts = {name: part.of(number) for name, part in self.parts.items()}
        return ClientShard(
            number,
            str(number) if self._names is None else self._names[number],
            float(self.sizes[number] / self._total),
            1.0 if self.probabilities is None else float(self.probabilities[number]),
            {name: held for name, held in parts.items() if len(held[1])},
            len(self),
            self.public,
        )
