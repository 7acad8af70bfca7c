"""Partitions under which clients see different labels."""

import numpy as np

from lkd.checks import expect
from lkd.datamodules.federated.partitions import Partition, Table, check_clients
from lkd.datamodules.samples.metadata import LABEL, codes, column

ATTEMPTS = 1000
ENOUGH, FEWEST = 20, 15
"""Number of draws after which a large table is given up, if so many clients were short in each."""
PATIENCE = 2e7
"""Numbers that are drawn in any case, about two seconds."""


class Dirichlet(Partition):
    """Label skew: client k gets a share p_k of every class, p ~ Dirichlet(alpha, ..., alpha).

    Yurochkin et al., ICML 2019; Hsu et al. 2019 draw the classes of every client instead. As in the code of
    Lin et al., NeurIPS 2020, a client that already holds the mean number of samples gets none of the classes
    that follow (classes come in random order), which keeps sizes comparable; `balanced=False` leaves that
    out.

    Args:
        alpha: concentration: 100 is nearly even, 0.1 leaves a client one to three classes.
        column: column whose values are skewed.
        min_samples: every client has at least this many; the draw is repeated until that is so: 1,000 times at
            most, and 20 times where these took seconds and each left 15 clients or more without enough.
        balanced: whether a client that already holds the mean number of samples gets none of the classes that
            follow.

    Raises:
        ValueError: for numbers out of range, or if no draw gives every client enough.

    Example:
        >>> labels = {"label": np.arange(1000) % 10}
        >>> rows = Dirichlet(0.1)(labels, 1000, 5, np.random.default_rng(0))
        >>> sum(map(len, rows))
        1000
    """

    def __init__(
        self, alpha: float, column: str = LABEL, min_samples: int = 1, balanced: bool = True
    ) -> None:
        expect(alpha=alpha, gt=0)
        expect(min_samples=min_samples, ge=1)
        self.alpha, self.column, self.min_samples, self.balanced = alpha, column, min_samples, balanced

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Deals out every class by shares of its own."""
        count = check_clients(clients, size, self.min_samples)
        _, place = codes(column(columns, self.column))
        classes = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
        short: list[int] = []  # clients without enough, in each draw
        while len(short) < ATTEMPTS and not self._hopeless(short, size + count * len(classes)):
            owner = self._draw(classes, size, count, rng)
            sizes = np.bincount(owner, minlength=count)
            short.append(int((sizes < self.min_samples).sum()))
            if not short[-1]:
                return np.split(np.argsort(owner, kind="stable"), np.cumsum(sizes)[:-1])
        raise ValueError(
            f"Dirichlet(alpha={self.alpha}) left a client with fewer than min_samples={self.min_samples} of "
            f"{size} samples in each of {len(short)} draws for {count} clients, {min(short)} of them at best: take a "
            "larger alpha, or fewer clients."
        )

    def _hopeless(self, short: list[int], numbers: int) -> bool:
        """Returns whether draws of so many numbers each are given up early.

        Short clients are rare and nearly independent, so their number is nearly of a Poisson distribution: where
        `FEWEST` were short in each of `ENOUGH` draws, its mean is about 24 or more, and none short is a matter of
        e^-24. A small table is drawn `ATTEMPTS` times all the same, which takes a moment.
        """
        return len(short) >= ENOUGH and len(short) * numbers > PATIENCE and min(short) >= FEWEST

    def _draw(
        self, classes: list[np.ndarray], size: int, clients: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws the client (size,) of every row."""
        owner, held = np.empty(size, dtype=np.int64), np.zeros(clients, dtype=np.int64)
        for number in rng.permutation(len(classes)):
            rows = rng.permutation(classes[number])
            shares = rng.dirichlet(np.full(clients, self.alpha))
            if self.balanced:
                shares = shares * (held < size / clients)
                if not shares.sum() > 0:  # a small alpha put all mass on clients that are full
                    shares = (held < size / clients).astype(float)
            ends = np.round(np.cumsum(shares) / shares.sum() * len(rows)).astype(np.int64)
            counts = np.diff(ends, prepend=0)
            owner[rows] = np.repeat(np.arange(clients), counts)
            held += counts
        return owner


class Shards(Partition):
    """McMahan et al., AISTATS 2017: rows sorted by label, cut in equal pieces, `per_client` pieces each.

    With two pieces most clients see two labels only ("pathological").

    Args:
        per_client: pieces for each client.
        column: column that rows are sorted by.

    Raises:
        ValueError: for a number below 1, or fewer rows than pieces.

    Example:
        >>> labels = {"label": np.arange(100) % 10}
        >>> rows = Shards(2)(labels, 100, 5, np.random.default_rng(0))
        >>> [len(set(labels["label"][own])) for own in rows]
        [2, 2, 2, 2, 2]
    """

    def __init__(self, per_client: int = 2, column: str = LABEL) -> None:
        expect(per_client=per_client, ge=1)
        self.per_client, self.column = per_client, column

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Cuts the sorted rows and deals out the pieces."""
        count = check_clients(clients, size, self.per_client)
        rows = _sorted(column(columns, self.column), rng)
        pieces = count * self.per_client
        ends = np.arange(1, pieces + 1) * (size // pieces) + np.minimum(
            np.arange(1, pieces + 1), size % pieces
        )
        sizes = np.diff(ends, prepend=0)
        order = rng.permutation(pieces)
        # all pieces in their new order by one gather: for a million clients, a tenth of the time of a loop
        moved, filled = sizes[order], np.cumsum(sizes[order])
        dealt = rows[np.repeat(ends[order] - filled, moved) + np.arange(size)]
        return np.split(dealt, filled[self.per_client - 1 : -1 : self.per_client])


class Similarity(Partition):
    """SCAFFOLD's split: `percent` % of the rows are dealt out IID, the others sorted by label.

    Karimireddy et al., ICML 2020, section 7. All clients hold equal amounts, up to one row. 100 is IID; 0
    leaves a client one or two labels.

    Args:
        percent: share of similar rows, 0 to 100.
        column: column that the other rows are sorted by.

    Raises:
        ValueError: for a number out of range.

    Example:
        >>> labels = {"label": np.arange(100) % 10}
        >>> rows = Similarity(0)(labels, 100, 10, np.random.default_rng(0))
        >>> [len(set(labels["label"][own])) for own in rows]
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """

    def __init__(self, percent: float, column: str = LABEL) -> None:
        expect(percent=percent, ge=0, le=100)
        self.percent, self.column = percent, column

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Deals out both parts in equal shares."""
        count = check_clients(clients, size)
        order = rng.permutation(size)
        similar = round(size * self.percent / 100)
        rest = order[similar:]
        rest = rest[np.argsort(codes(column(columns, self.column))[1][rest], kind="stable")]
        whole = np.arange(count + 1) * size // count
        first = whole * similar // size  # never grows faster than `whole`, so that no share is negative
        second = whole - first
        return [
            np.concatenate([order[first[k] : first[k + 1]], rest[second[k] : second[k + 1]]])
            for k in range(count)
        ]


class PrimaryLabels(Partition):
    """Label skew of multi-headed distillation (Zhmoginov et al., CVPR 2023): every label has primary clients.

    A row's client is drawn with chances in proportion to 1 + `skew` for the primary clients of its label, and
    to 1 for the others. Of a label's rows, each of its m primary clients among K expects (1 + s) / (K + s m),
    and each other client 1 / (K + s m). The paper's public share is `FederatedDataModule(public=...)`. The
    primary clients of a label are drawn among those with the fewest primary labels so far, so that clients'
    numbers of them differ by one at most; this evenness is our choice. No code of the paper is public to
    compare the draw with.

    Args:
        primary: primary clients of every label (m).
        skew: the skew s: 0 is IID, 100 or 1,000 nearly disjoint.
        column: column of the labels.

    Raises:
        ValueError: for numbers out of range, more primary clients than clients, or a client that got no row.

    Example:
        >>> labels = {"label": np.arange(1000) % 10}
        >>> rows = PrimaryLabels(1, 1000)(labels, 1000, 5, np.random.default_rng(0))
        >>> sum(map(len, rows))
        1000
    """

    def __init__(self, primary: int = 1, skew: float = 100.0, column: str = LABEL) -> None:
        expect(primary=primary, ge=1, why="clients of a label")
        expect(skew=skew, ge=0)
        self.primary, self.skew, self.column = primary, skew, column

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Draws the client of every row."""
        count = check_clients(clients, size)
        if self.primary > count:
            raise ValueError(f"primary={self.primary} clients of a label are more than the {count} clients.")
        values, place = codes(column(columns, self.column))
        owners = self._owners(len(values), count, rng)
        # Weights (1 + skew on primary clients, 1 elsewhere) are a mixture: skew * primary of the mass goes to
        # a primary client drawn evenly, the other `count` to any client drawn evenly.
        favored = rng.random(size) * (count + self.skew * self.primary) >= count
        anyone, turn = rng.integers(count, size=size), rng.integers(self.primary, size=size)
        owner = np.where(favored, owners[place, turn], anyone)
        sizes = np.bincount(owner, minlength=count)
        if not sizes.all():
            raise ValueError(
                f"PrimaryLabels(primary={self.primary}, skew={self.skew}) left {int((sizes == 0).sum())} of "
                f"{count} clients without any of {size} samples: lower skew, raise primary, or take fewer clients."
            )
        return np.split(np.argsort(owner, kind="stable"), np.cumsum(sizes)[:-1])

    def _owners(self, labels: int, clients: int, rng: np.random.Generator) -> np.ndarray:
        """Draws the primary clients (labels, primary) of every label, all different."""
        owners, held = np.empty((labels, self.primary), dtype=np.int64), np.zeros(clients, dtype=np.int64)
        for label in rng.permutation(labels):
            owners[label] = np.lexsort((rng.random(clients), held))[: self.primary]
            held[owners[label]] += 1
        return owners


def _sorted(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns rows sorted by value, in random order within a value."""
    order = rng.permutation(len(values))
    return order[np.argsort(codes(values)[1][order], kind="stable")]
