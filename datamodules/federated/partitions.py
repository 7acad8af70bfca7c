"""Rules for which client holds which rows: evenly, in skewed amounts, or by a column of the metadata."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from lkd.checks import expect
from lkd.datamodules.samples.metadata import codes, column

Table = Mapping[str, np.ndarray]


class Partition(ABC):
    """Rule that deals rows out to clients."""

    column: str = ""  # the column that it looks at, if any

    @abstractmethod
    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Deals out rows 0 .. size - 1.

        Args:
            columns: metadata, `size` values in each column; a column is only computed when it is asked for.
            size: number of rows.
            clients: number of clients; `None` where the rule finds it.
            rng: source of all randomness.

        Returns:
            The rows of every client: disjoint, none empty.

        Raises:
            ValueError: if the deal is impossible; the message says what would be right.
        """

    def names(self, columns: Table, size: int, clients: int | None) -> list[str] | None:
        """Returns names of the clients, or `None` if they have only numbers."""
        return None


def check_clients(clients: int | None, size: int, samples: int = 1) -> int:
    """Returns the number of clients if it is given, is at least one, and there are rows for all of them."""
    if clients is None:
        raise ValueError("clients=None: this partition needs the number of clients.")
    expect(clients=clients, ge=1)
    if clients * samples > size:
        each = "" if samples == 1 else f" with {samples} samples each"
        raise ValueError(f"{clients} clients{each} are more than the {size} training samples can fill.")
    return clients


class IID(Partition):
    """Equal shares of the shuffled rows (sizes differ by one at most).

    Example:
        >>> [len(rows) for rows in IID()({}, 7, 3, np.random.default_rng(0))]
        [3, 2, 2]
    """

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Deals out the rows evenly."""
        return np.array_split(rng.permutation(size), check_clients(clients, size))


class Natural(Partition):
    """A client for every value of a column: a camera, a weather, a day, a subject.

    Clients are in natural order and have the values as names ("subject 3" where the value is a number).

    Args:
        column: name of the column.

    Example:
        >>> camera = {"camera": np.array(["C2", "C10", "C2"])}
        >>> Natural("camera")(camera, 3, None, np.random.default_rng(0)), Natural("camera").names(camera, 3, None)
        ([array([0, 2]), array([1])], ['C2', 'C10'])
    """

    def __init__(self, column: str) -> None:
        self.column = column

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Groups the rows by value."""
        values, place = codes(column(columns, self.column))
        if clients not in (None, len(values)):
            raise ValueError(
                f"clients={clients}, but column {self.column!r} has {len(values)} values, each a client: "
                "leave clients out."
            )
        return np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])

    def names(self, columns: Table, size: int, clients: int | None) -> list[str]:
        """Returns the values of the column as names."""
        return [self.name(value) for value in codes(column(columns, self.column))[0]]

    def name(self, value: object) -> str:
        """Returns the name of the client with this value.

        Example:
            >>> Natural("subject").name(3), Natural("camera").name("C1")
            ('subject 3', 'C1')
        """
        return value if isinstance(value, str) else f"{self.column} {value}"


class _Quantity(Partition):
    """Skewed amounts of shuffled rows; a subclass says how they are skewed."""

    min_samples: int

    def weights(self, clients: int, rng: np.random.Generator) -> np.ndarray:
        """Returns relative amounts (clients,), all above 0."""
        raise NotImplementedError

    def __call__(
        self, columns: Table, size: int, clients: int | None, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Gives every client `min_samples`, and the rest by weight."""
        count = check_clients(clients, size, self.min_samples)
        weights = self.weights(count, rng)
        ends = np.round(np.cumsum(weights) / weights.sum() * (size - count * self.min_samples)).astype(
            np.int64
        )
        return np.split(rng.permutation(size), ends[:-1] + self.min_samples * np.arange(1, count))


class PowerLaw(_Quantity):
    """Quantity skew: the k-th largest client holds an amount in proportion to k^(-exponent).

    Which client is the k-th largest is drawn at random. Labels are distributed alike in all clients.

    Args:
        exponent: 0 is even; 1 is Zipf's law.
        min_samples: every client has this many besides.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> sorted(map(len, PowerLaw(1.0)({}, 114, 3, np.random.default_rng(0))))
        [21, 31, 62]
    """

    def __init__(self, exponent: float = 1.0, min_samples: int = 1) -> None:
        expect(exponent=exponent, ge=0)
        self.exponent, self.min_samples = exponent, _at_least_one(min_samples)

    def weights(self, clients: int, rng: np.random.Generator) -> np.ndarray:
        """Returns k^(-exponent) in random order."""
        return rng.permutation(np.arange(1, clients + 1) ** -float(self.exponent))


class LogNormal(_Quantity):
    """Quantity skew: amounts in proportion to exp(sigma z), z ~ N(0, 1).

    Labels are distributed alike in all clients.

    Args:
        sigma: 0 is even; with 2 (FedProx's synthetic sets) the largest of 30 clients holds about half of all.
        min_samples: every client has this many besides.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> sum(map(len, LogNormal(1.0)({}, 100, 7, np.random.default_rng(0))))
        100
    """

    def __init__(self, sigma: float = 1.0, min_samples: int = 1) -> None:
        expect(sigma=sigma, ge=0)
        self.sigma, self.min_samples = sigma, _at_least_one(min_samples)

    def weights(self, clients: int, rng: np.random.Generator) -> np.ndarray:
        """Returns exp(sigma z), z ~ N(0, 1), for every client."""
        return np.exp(self.sigma * rng.standard_normal(clients))


def _at_least_one(min_samples: int) -> int:
    expect(min_samples=min_samples, ge=1)
    return min_samples
