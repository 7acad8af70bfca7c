"""From a partition to shards: a public share held out, rows dealt out, every client's own validation and test."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from lkd.datamodules.batching import Batching
from lkd.datamodules.columns import Columns, codes
from lkd.datamodules.partitions import Natural, Partition
from lkd.datamodules.shards import Part, Ragged


def hold_out(size: int, public: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows for the clients and rows of the public share, both ascending.

    Raises:
        ValueError: if either would be empty though it is asked for.
    """
    if public == 0:
        return np.arange(size), np.arange(0)
    order, count = rng.permutation(size), round(public * size)
    if not 0 < count < size:
        whom = "the clients" if count else "the public share"
        raise ValueError(f"public={public} of {size} training samples leaves {whom} nothing.")
    return np.sort(order[count:]), np.sort(order[:count])


def deal(
    partition: Partition, columns: Columns, rows: np.ndarray, clients: int | None, rng: np.random.Generator
) -> tuple[Ragged, list[str] | None]:
    """Deals some rows of a data set out; a partition may be the user's own, so what it gives is checked.

    Returns:
        The rows of every client, and the clients' names if they have any.

    Raises:
        ValueError: if a client gets nothing, or two get the same row.
    """
    if len(rows) < columns.size:
        columns = Columns(Subset(columns.dataset, rows))  # type: ignore[arg-type]
    dealt = Ragged(partition(columns, len(rows), clients, rng))
    names = partition.names(columns, len(rows), clients)
    if len(np.unique(dealt.flat)) < len(dealt.flat):
        raise ValueError(f"{type(partition).__name__} gave a sample to more than one client.")
    dealt.flat = rows[dealt.flat]
    check_filled(dealt, names)
    return dealt, names


def check_filled(shards: Ragged, names: Sequence[str] | None) -> None:
    """Complains about a client without training samples."""
    if not len(shards):
        raise ValueError("the partition made no client at all: there must be one at least.")
    if not shards.sizes.all():
        number = int(np.argmin(shards.sizes))
        raise ValueError(
            f"client {names[number] if names else str(number)!r} has no training samples: every client needs "
            "one at least; use fewer clients, another partition, or other client_fractions."
        )


def split_each(
    shards: Ragged, columns: Columns, fractions: Sequence[float], rng: np.random.Generator
) -> dict[str, Ragged]:
    """Every client's rows as train, val and test, by time if there is a column "time", else at random.

    Rows of one client with the same time stay together, and the last ones test, as in `by_time`.

    Returns:
        Rows of every client by the name of the part; parts that nobody has are left out.
    """
    time = codes(columns["time"])[1] if "time" in columns.cheap else rng.permutation(columns.size)
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for number in range(len(shards)):
        rows = shards[number]
        moments, place = np.unique(time[rows], return_inverse=True)
        ends = np.floor(np.cumsum(fractions)[:2] * len(moments) + 0.5 + 1e-9)
        part = np.searchsorted(ends, place, side="right")
        for which, held in enumerate(parts.values()):
            held.append(rows[part == which])
    return {name: Ragged(held) for name, held in parts.items() if name == "train" or any(map(len, held))}


def match(
    loader: Any, partition: Natural, names: Sequence[str], batch_size: int | None = None
) -> Part | None:
    """The rows of a validation or test set that have the clients' values of the partition's column.

    Args:
        loader: a DataLoader, or a list of one.
        partition: says which column.
        names: of the clients.
        batch_size: `None` for the loader's own.

    Returns:
        `None` if the set lacks the column, or there is not exactly one loader.
    """
    if isinstance(loader, Sequence) and len(loader) == 1:
        loader = loader[0]
    if not isinstance(loader, DataLoader):
        return None
    columns = Columns(loader.dataset)
    if partition.column not in columns:
        return None
    values, place = codes(columns[partition.column])
    held = {partition.name(value): np.flatnonzero(place == k) for k, value in enumerate(values)}
    return Part(Batching(loader, batch_size), Ragged([held.get(name, np.arange(0)) for name in names]))


class Unlabelled(Dataset[Any]):
    """Batches of some rows in order, without labels: x of a pair (x, y), a dict without `targets`."""

    def __init__(self, batching: Batching, rows: np.ndarray) -> None:
        self.batching, self.tasks = batching, batching.tasks(rows)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.tasks)

    def __getitem__(self, number: int) -> Any:
        """One batch."""
        batch = self.batching[self.tasks[number]]
        if isinstance(batch, dict):
            return {key: value for key, value in batch.items() if key not in ("targets", "target", "labels")}
        return batch[0] if isinstance(batch, Sequence) and isinstance(batch[0], Tensor) else batch
