"""Clients of a site by the numbers that the server has given them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lkd.federated.protocol.client_data import ClientData


class Seat(NamedTuple):
    """What the server says of a client of a site.

    Attributes:
        local: The client's number in the site's own data.
        share: Its number of samples as a share of all clients'.
        probability: Its chance to be in a cohort.
    """

    local: int
    share: float
    probability: float


class Placed:
    """Clients of a data module, as the server numbers them.

    Args:
        seats: What the server says of each client of this site, by its number there.
        population: Number of all clients.
    """

    def __init__(self, seats: Mapping[int, Seat], population: int) -> None:
        self.seats, self.population = seats, population

    @classmethod
    def of(cls, told: Mapping[str, Sequence[float]], population: int) -> "Placed":
        """Reads seats from plain values."""
        return cls(
            {int(k): Seat(int(v[0]), float(v[1]), float(v[2])) for k, v in told.items()}, int(population)
        )

    def __call__(self, clients: Any) -> "_PlacedClients":
        """Returns the clients of a data module that are of this site."""
        return _PlacedClients(self, clients)


class _PlacedClients:
    def __init__(self, placed: Placed, clients: Any) -> None:
        self._placed, self._clients = placed, clients

    def __len__(self) -> int:
        return len(self._placed.seats)

    def __iter__(self) -> Iterator[ClientData]:
        return iter(self[list(self._placed.seats)])

    def __getitem__(self, ids: int | list[int]) -> Any:
        """Returns the clients of these numbers, or one by its place among those of the site."""
        if isinstance(ids, int):
            return self._one(list(self._placed.seats)[ids])
        return [self._one(number) for number in ids]

    def _one(self, number: int) -> ClientData:
        if number not in self._placed.seats:
            raise ValueError(f"client {number} is not of this site, which has {sorted(self._placed.seats)}.")
        seat = self._placed.seats[number]
        client: Any = self._clients[[seat.local]][0]
        client.id, client.share, client.probability = number, seat.share, seat.probability
        client.population = self._placed.population
        found: ClientData = client
        return found
