"""Shards from a partition: a public share held out, rows dealt out, each client's own val and test."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch.utils.data import DataLoader, Subset

from lkd.datamodules.federated.client_data import Part, Population, Ragged
from lkd.datamodules.federated.partitions import Natural, Partition
from lkd.datamodules.federated.public_data import PublicData
from lkd.datamodules.modalities.modality_clients import apply
from lkd.datamodules.modalities.modality_plan import ModalityPlan
from lkd.datamodules.samples.batching import Batching
from lkd.datamodules.samples.metadata import GROUP, Columns, codes
from lkd.datamodules.samples.unused_samplers import warn_of_sampler

PUBLIC, DEAL, SPLIT = range(3)  # streams of random numbers made from the seed


def populate(
    loader: DataLoader,
    partition: Partition,
    clients: int | None,
    public: float | PublicData,
    fractions: Sequence[float],
    batch_size: int | None,
    seed: int,
    plan: ModalityPlan | None = None,
) -> tuple[Population, Columns]:
    """Deals out the data set of a loader: public share, then the clients' shards, then each client's split.

    Args:
        loader: the loader that makes the batches.
        partition: rule that says who gets which rows.
        clients: number of clients; `None` where the partition finds it.
        public: share that is held out, or data from elsewhere.
        fractions: shares (train, val, test) of every client's rows.
        batch_size: batch size of the clients; `None` for the loader's own.
        seed: seed of all draws; all rows depend on it alone.
        plan: who has which modality of its rows; `None` where all have all.

    Returns:
        The clients, and the columns of the data set.

    Raises:
        ValueError: for a client without a batch, and as in the functions below.
    """
    batching = Batching(loader, batch_size)
    warn_of_sampler(loader)
    plain = Batching(loader, batch_size, getattr(batching.dataset, "plain", None))
    columns = Columns(batching.dataset)
    if not columns.size:
        raise ValueError(
            f"the training set, {type(batching.dataset).__name__}, is empty: there is nothing to deal out."
        )
    holding, dealing, splitting = (np.random.default_rng([seed, k]) for k in (PUBLIC, DEAL, SPLIT))
    if isinstance(public, PublicData):
        public.check_like(plain)
        rows, known = np.arange(columns.size), public
    else:
        rows, held_out = hold_out(columns.size, public, holding, groups_of(columns))
        known = PublicData(plain, held_out)
    shards, names = deal(partition, columns, rows, clients, dealing)
    parts = {"train": shards}
    if fractions[0] < 1:
        parts = split_each(shards, columns, fractions, splitting)
        check_filled(parts["train"], names)
    dealt = {name: Part(batching if name == "train" else plain, held) for name, held in parts.items()}
    if plan is not None:
        dealt = {name: apply(plan, part, columns, seed, name) for name, part in dealt.items()}
    population = Population(dealt["train"], names, public=known if len(known) else None)
    population.parts = dealt
    few = population[int(population.sizes.argmin())]
    if not few.num_batches():
        raise ValueError(
            f"client {few.name!r} has {few.num_samples} samples, fewer than a batch of "
            f"{batching.batch_size}, and the loader has drop_last=True: lower batch_size, or do not drop."
        )
    return population, columns


def groups_of(columns: Columns) -> np.ndarray:
    """Returns the group number of every row (rows,), from the column "group".

    Without this column each row is its own group.
    """
    return codes(columns[GROUP])[1] if GROUP in columns.cheap else np.arange(columns.size)


def hold_out(
    size: int, public: float, rng: np.random.Generator, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the rows for the clients and the rows of the public share, both ascending.

    Rows of one group stay together; as many groups are public as come nearest to the share.

    Args:
        size: number of rows.
        public: share of the rows that is public.
        rng: source of all randomness.
        groups: group number of every row (rows,); `None` if each row is its own.

    Raises:
        ValueError: if a side that is asked for would be empty.
    """
    if public == 0:
        return np.arange(size), np.arange(0)
    order, count = rng.permutation(size), round(public * size)
    if groups is not None and size and (many := int(groups.max()) + 1) < size:
        order = np.argsort(rng.permutation(many)[groups], kind="stable")
        ends = 1 + np.flatnonzero(np.diff(groups[order], append=-1))
        count = int(ends[np.abs(ends - count).argmin()])
    if not 0 < count < size:
        whom = "the clients" if count else "the public share"
        raise ValueError(f"public={public} of {size} training samples leaves {whom} nothing.")
    return np.sort(order[count:]), np.sort(order[:count])


def deal(
    partition: Partition, columns: Columns, rows: np.ndarray, clients: int | None, rng: np.random.Generator
) -> tuple[Ragged, list[str] | None]:
    """Deals out some rows of a data set, and checks the result, since a partition may be the user's own.

    Args:
        partition: rule that says who gets which rows.
        columns: columns of the data set.
        rows: rows that are dealt out.
        clients: number of clients; `None` where the partition finds it.
        rng: source of all randomness.

    Returns:
        The rows of every client, and the clients' names if they have any.

    Raises:
        ValueError: if a client gets nothing, or two get the same row.
    """
    if len(rows) < columns.size:
        columns = Columns(Subset(columns.dataset, cast(Sequence[int], rows)))
    dealt = Ragged(partition(columns, len(rows), clients, rng))
    names = partition.names(columns, len(rows), clients)
    if len(np.unique(dealt.flat)) < len(dealt.flat):
        raise ValueError(f"{type(partition).__name__} gave a sample to more than one client.")
    dealt.flat = rows[dealt.flat]
    check_filled(dealt, names)
    return dealt, names


def check_filled(shards: Ragged, names: Sequence[str] | None) -> None:
    """Refuses a client without training samples."""
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
    """Splits every client's rows into train, val and test, by the column "time" if it exists, else at random.

    Rows of one client with the same time stay together, and the last ones test, as in `by_time`. So do rows
    of one group where there is a column "group", such as windows that overlap: a group's time is that of its
    first row.

    Args:
        shards: rows of every client.
        columns: columns of the data set.
        fractions: shares (train, val, test) of every client's rows.
        rng: source of all randomness.

    Returns:
        Rows of every client by the name of the part; empty parts are left out.
    """
    groups = groups_of(columns)
    begin = rng.permutation(int(groups.max()) + 1)
    if "time" in columns.cheap:
        begin[:] = columns.size
        np.minimum.at(begin, groups, codes(columns["time"])[1])
    time = begin[groups]
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
    """Returns the rows of a validation or test set with the clients' values of the partition's column.

    Args:
        loader: a DataLoader, or a list of one.
        partition: partition that names the column.
        names: names of the clients.
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
