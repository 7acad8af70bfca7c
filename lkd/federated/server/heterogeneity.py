"""Clients' machines in a round: which cannot be reached, which are slow, whose reply is lost."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from lkd.checks import expect

STRAGGLERS, ROUND, MACHINE = range(3)  # independent streams of random numbers


class Fate(NamedTuple):
    """What happens to one client in one round.

    Attributes:
        available: Whether it can be reached; if not, it does not start and costs nothing.
        work: Share of the local work that it manages, in (0, 1]; 1 for all but stragglers.
        dropped: Whether its reply is lost; a simulation then skips its work, and counts no bytes.
        speed: Speed of its machine, relative to the median one; the same in every round. Its time is work /
            speed.
    """

    available: bool = True
    work: float = 1.0
    dropped: bool = False
    speed: float = 1.0


def epochs(number: int, fate: Fate) -> int:
    """Returns the local epochs out of `number` that a client completes: all, or as a straggler fewer.

    A straggler completes 1 to `number - 1`. FedProx draws these by `randint(1, number)`, whose upper end is
    exclusive, so a straggler never completes its work; for `work` uniform in (0, 1) this gives the same
    distribution. A single epoch cannot be completed in part: for `number=1` take `steps` of its batches
    instead, or stragglers do not differ.

    Args:
        number: E, the epochs that the server asks for.
        fate: Fate of the client.

    Example:
        >>> epochs(20, Fate()), epochs(20, Fate(work=0.5)), epochs(20, Fate(work=0.01)), epochs(1, Fate(work=0.5))
        (20, 10, 1, 1)
    """
    return number if fate.work >= 1 else 1 + int(fate.work * (number - 1))


def steps(number: int, fate: Fate) -> int:
    """Returns the optimizer steps out of `number` that a client completes: its share, at least 1.

    Example:
        >>> steps(8, Fate()), steps(8, Fate(work=0.5)), steps(8, Fate(work=0.01))
        (8, 4, 1)
    """
    return max(1, round(fate.work * number))


class SystemHeterogeneity:
    """Fates of a round's clients, drawn at random. By default all are reached, finish and reply.

    Stragglers are those of Li et al., "Federated Optimization in Heterogeneous Networks" (FedProx), MLSys
    2020, arXiv:1812.06127, Section 5.2: an exact share of every cohort, drawn anew each round. Their partial
    work is kept (FedProx) or dropped (the FedAvg baseline there). Everything else is drawn for each client
    alone. All draws depend only on (seed, round, client) and, for stragglers, on the other clients in the
    cohort.

    Args:
        straggler_share: Share of stragglers: exactly `round(straggler_share K)` of every cohort of K.
        stragglers: `"partial"`: a straggler's partial work counts. `"drop"`: the server does not wait for it.
        dropout: Chance that a client's reply is lost.
        availability: Chance that a client can be reached.
        speed_sigma: Spread of the machines: speeds are log-normal with median 1 and this deviation of the
            log.
        min_work: A straggler's share of the work is uniform in [min_work, 1).
        seed: Not negative. Two studies with the same seed have the same stragglers in each round.

    Raises:
        ValueError: For shares and chances out of [0, 1], and negative numbers.

    Example:
        >>> devices = SystemHeterogeneity(straggler_share=0.5)
        >>> fates = devices.plan(round=3, ids=[4, 8, 15, 16])
        >>> sum(fate.work < 1 for fate in fates.values())
        2
        >>> fates == devices.plan(round=3, ids=[16, 15, 8, 4])
        True
    """

    def __init__(
        self,
        straggler_share: float = 0.0,
        stragglers: Literal["partial", "drop"] = "partial",
        dropout: float = 0.0,
        availability: float = 1.0,
        speed_sigma: float = 0.0,
        min_work: float = 0.0,
        seed: int = 0,
    ) -> None:
        expect(straggler_share=straggler_share, dropout=dropout, availability=availability, ge=0, le=1)
        expect(min_work=min_work, ge=0, lt=1, why="a share of the local work")
        expect(stragglers=stragglers, among=("partial", "drop"))
        expect(speed_sigma=speed_sigma, seed=seed, ge=0)
        self.straggler_share, self.drop = straggler_share, stragglers == "drop"
        self.dropout, self.availability = dropout, availability
        self.speed_sigma, self.min_work, self.seed = speed_sigma, min_work, seed

    def plan(self, round: int, ids: Sequence[int]) -> dict[int, Fate]:
        """Draws the fate of every client of a cohort, in ascending order of ids.

        Args:
            round: Number of the round, from 0.
            ids: The cohort, in any order.
        """
        cohort = sorted(ids)
        slow = self._stragglers(round, cohort)
        return {client: self._fate(round, client, client in slow) for client in cohort}

    def _stragglers(self, number: int, cohort: list[int]) -> set[int]:
        count = round(self.straggler_share * len(cohort))
        rng = np.random.default_rng([self.seed, STRAGGLERS, number])
        return {cohort[i] for i in rng.permutation(len(cohort))[:count]} if count else set()

    def _fate(self, number: int, client: int, straggles: bool) -> Fate:
        # always draws three numbers, so that one option does not change the draws of another
        reach, work, loss = np.random.default_rng([self.seed, ROUND, number, client]).random(3)
        machine = np.random.default_rng([self.seed, MACHINE, client])
        return Fate(
            available=bool(reach < self.availability),
            work=float(self.min_work + (1 - self.min_work) * work) if straggles else 1.0,
            dropped=bool(loss < self.dropout) or (straggles and self.drop),
            speed=float(np.exp(self.speed_sigma * machine.standard_normal())),
        )
