"""Ledger of differential privacy: which rounds used the clients' data, and what that has cost."""

import functools
import math
from typing import Any, NamedTuple

from lkd.datamodules import Sampling

INTERVAL = 1e-4
"""Step in which privacy losses are discretized, dp-accounting's own default; it rounds up."""
ROUNDS = 1 << 31
"""Most rounds that a checkpoint is believed to have had."""


class PrivateRounds(NamedTuple):
    """Rounds that were alike.

    Attributes:
        sampling: How their clients were drawn.
        noise_multiplier: Deviation of the noise on the sum of changes, in units of their greatest length.
        rounds: How many there were.
    """

    sampling: Sampling
    noise_multiplier: float
    rounds: int


class PrivacyLedger:
    """Rounds so far, and what they cost: epsilon at a delta.

    Two sets of clients are neighbors if they differ in one client, whose change is there in one and zero in
    the other; their number is public. Then a round is a Gaussian mechanism of sensitivity `clip`, amplified
    where clients are drawn by Poisson sampling. Its privacy losses are composed as distributions (Koskela et
    al., AISTATS 2020, arXiv:1906.03049; Doroshenko et al., PoPETs 2022, arXiv:2207.04381).

    For cohorts of a fixed size the library knows the amplification of a change that is replaced by any other,
    of sensitivity `2 clip`, as a Rényi divergence (Wang, Balle, Kasiviswanathan, AISTATS 2019,
    arXiv:1808.00087, Theorem 27). Zero is such another, so that bound holds, too, and so does the one without
    amplification: the smaller one is taken.

    Args:
        delta: Chance with which the guarantee may fail.
        entries: Rounds so far.

    Example:
        >>> ledger = PrivacyLedger(1e-5)
        >>> ledger.count(Sampling("always", 10, 10), 0.0)
        >>> ledger.epsilon()
        inf
    """

    def __init__(self, delta: float, entries: list[PrivateRounds] | None = None) -> None:
        self.delta, self.entries = delta, entries or []

    @property
    def rounds(self) -> int:
        """How many there were."""
        return sum(entry.rounds for entry in self.entries)

    def count(self, sampling: Sampling, noise_multiplier: float, rounds: int = 1) -> None:
        """Adds rounds."""
        self.entries = self._with(sampling, noise_multiplier, rounds)

    def epsilon_after(self, sampling: Sampling, noise_multiplier: float, rounds: int = 1) -> float:
        """Returns what epsilon will be after further rounds."""
        return _epsilon(tuple(self._with(sampling, noise_multiplier, rounds)), self.delta)

    def epsilon(self) -> float:
        """Returns what the rounds so far have cost; 0 before the first."""
        return _epsilon(tuple(self.entries), self.delta)

    def _with(self, sampling: Sampling, noise_multiplier: float, rounds: int) -> list[PrivateRounds]:
        last = self.entries[-1] if self.entries else None
        if last is not None and (last.sampling, last.noise_multiplier) == (sampling, noise_multiplier):
            return [*self.entries[:-1], last._replace(rounds=last.rounds + rounds)]
        return [*self.entries, PrivateRounds(sampling, noise_multiplier, rounds)]

    def state_dict(self) -> list[list[Any]]:
        """Returns the rounds as plain values."""
        return [[*entry.sampling, entry.noise_multiplier, entry.rounds] for entry in self.entries]

    def load_state_dict(self, rows: list[list[Any]]) -> None:
        """Restores what `state_dict` gave.

        Raises:
            ValueError: If a row cannot be.
        """
        entries = []
        for row in rows:
            scheme, size, population, noise, rounds = row
            fits = scheme in ("poisson", "fixed", "always") and 0 < size <= population and noise >= 0
            if not fits or not 0 < rounds < ROUNDS:
                raise ValueError(f"the checkpoint's privacy ledger has {row}, which no round can have cost.")
            entries.append(PrivateRounds(Sampling(scheme, size, population), noise, rounds))
        self.entries = entries


@functools.lru_cache(maxsize=4096)
def _epsilon(entries: tuple[PrivateRounds, ...], delta: float) -> float:
    if not entries:
        return 0.0
    if any(not entry.noise_multiplier for entry in entries):
        return math.inf
    schemes = {entry.sampling.scheme for entry in entries}
    found = _by_distributions(entries, delta)
    if "fixed" in schemes and "poisson" not in schemes:  # which the library does not compose
        found = min(found, _by_divergences(entries, delta))
    return found


def _by_distributions(entries: tuple[PrivateRounds, ...], delta: float) -> float:
    parts = [_losses(e.sampling, e.noise_multiplier).self_compose(e.rounds) for e in entries]
    return float(functools.reduce(lambda a, b: a.compose(b), parts).get_epsilon_for_delta(delta))


@functools.lru_cache(maxsize=16)
def _losses(sampling: Sampling, noise_multiplier: float) -> Any:
    """Returns the distribution of the privacy loss of one round."""
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    chance = sampling.size / sampling.population if sampling.scheme == "poisson" else 1.0
    return from_gaussian_mechanism(
        noise_multiplier,
        sampling_prob=chance,
        value_discretization_interval=INTERVAL,
        neighboring_relation=NeighboringRelation.REPLACE_SPECIAL,
    )


def _by_divergences(entries: tuple[PrivateRounds, ...], delta: float) -> float:
    import dp_accounting as dp
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    for (scheme, size, population), noise, rounds in entries:
        one = dp.GaussianDpEvent(noise / 2)  # a change for its opposite is 2 clip apart
        drawn = dp.SampledWithoutReplacementDpEvent(population, int(size), one)
        accountant.compose(drawn if scheme == "fixed" else one, rounds)
    return float(accountant.get_epsilon(delta))
