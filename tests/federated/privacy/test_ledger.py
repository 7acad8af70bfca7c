"""What noise is worth, against values that are computed here in other ways."""

import math

import pytest

pytest.importorskip("dp_accounting")

from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp

from lkd.datamodules import Sampling
from lkd.federated.server.privacy_ledger import PrivacyLedger, PrivateRounds, _by_divergences
from tests.federated.privacy.rounds import gaussian_delta

DELTA = 1e-5


def epsilon(sampling, noise, rounds, delta=DELTA):
    ledger = PrivacyLedger(delta)
    ledger.count(sampling, noise, rounds)
    return ledger.epsilon()


@pytest.mark.parametrize(("noise", "rounds"), [(4.0, 1), (4.0, 25), (1.0, 1), (20.0, 100)])
def test_all_clients_by_the_closed_form(noise, rounds):
    exact = brentq(lambda e: gaussian_delta(e, noise / math.sqrt(rounds)) - DELTA, 0.0, 200.0)
    found = epsilon(Sampling("always", 10, 10), noise, rounds)
    assert exact - 1e-9 <= found <= exact + 1e-3  # rounded up, and not by much


def density(x, mean, noise):
    return math.exp(-((x - mean) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 1.0), (0.5, 2.0)])
def test_one_round_of_poisson_sampling_by_an_integral(rate, noise):
    """The two hockey-stick divergences between N(0) and (1 - q) N(0) + q N(1)."""

    def worst(e):
        def mixed(x):
            return (1 - rate) * density(x, 0, noise) + rate * density(x, 1, noise)

        def gap(x, there, here):
            return max(0.0, there(x) - math.exp(e) * here(x))

        def plain(x):
            return density(x, 0, noise)

        ends = -12 * noise, 1 + 12 * noise
        pairs = ((mixed, plain), (plain, mixed))
        return max(
            quad(gap, *ends, args=pair, limit=2000, epsabs=1e-13, points=[k * noise for k in range(-9, 10)])[
                0
            ]
            for pair in pairs
        )

    exact = brentq(lambda e: worst(e) - DELTA, 1e-3, 20.0)
    assert epsilon(Sampling("poisson", 100 * rate, 100), noise, 1) == pytest.approx(exact, abs=2e-3)


def by_divergences(rate, noise, rounds, delta, moments=False):
    """Mironov, Talwar, Zhang 2019 (arXiv:1908.10530), eq. (4) at whole orders, by its binomial sum."""
    found = []
    for order in range(2, 64):
        terms = [
            gammaln(order + 1)
            - gammaln(k + 1)
            - gammaln(order - k + 1)
            + k * math.log(rate)
            + (order - k) * math.log1p(-rate)
            + (k * k - k) / (2 * noise**2)
            for k in range(order + 1)
        ]
        divergence = rounds * logsumexp(terms) / (order - 1)
        if moments:  # Abadi et al. 2016, Theorem 2
            found.append(divergence - math.log(delta) / (order - 1))
            continue
        # Canonne, Kamath, Steinke 2020 (arXiv:2004.00010), Proposition 12
        found.append(divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1))
    return min(found)


@pytest.mark.parametrize(("rate", "noise", "rounds"), [(0.01, 1.0, 1000), (0.1, 2.0, 100), (0.3, 3.0, 50)])
def test_poisson_sampling_over_rounds_below_another_bound(rate, noise, rounds):
    bound = by_divergences(rate, noise, rounds, DELTA)
    found = epsilon(Sampling("poisson", 1000 * rate, 1000), noise, rounds)
    assert 0.75 * bound < found < bound


def test_a_published_example():
    """Abadi et al. 2016 (arXiv:1607.00133), Figure 2: q = .01, sigma = 4, 10,000 steps: 1.26 by moments, at delta = 1e-5."""
    assert by_divergences(0.01, 4.0, 10_000, DELTA, moments=True) == pytest.approx(1.26, abs=0.005)
    bound = by_divergences(0.01, 4.0, 10_000, DELTA)
    assert 0.85 * bound < epsilon(Sampling("poisson", 100, 10_000), 4.0, 10_000) < bound < 1.26


def test_a_fixed_size_is_not_amplified_like_poisson():
    fixed, poisson = (epsilon(Sampling(scheme, 10, 1000), 2.0, 100) for scheme in ("fixed", "poisson"))
    always = epsilon(Sampling("always", 10, 1000), 2.0, 100)
    assert poisson < fixed < always


def test_a_fixed_size_by_the_papers_bound():
    """Wang et al. 2019, Theorem 27 at the order 2 alone, where the sensitivity is two clips."""
    rate, noise, rounds, delta = 0.001, 3.0, 20, 1e-3
    plain = 2 / (2 * (noise / 2) ** 2)
    inside = min(4 * math.expm1(plain), 2 * math.exp(plain))
    divergence = rounds * math.log1p(rate**2 * inside)
    at_two = divergence + math.log(1 / 2) - math.log(delta) - math.log(2)
    found = epsilon(Sampling("fixed", 1, 1000), noise, rounds, delta)
    assert 0 < found <= at_two + 1e-9


def test_a_change_for_its_opposite_is_two_clips_apart():
    """All of them are a sample of a fixed size, too: the divergence of N(0) and N(2 clip) at the order a is 2 a / noise^2."""
    noise, rounds = 6.0, 10

    def bound(order):
        return rounds * 2 * order / noise**2 + math.log1p(-1 / order) - (math.log(DELTA) + math.log(order)) / (order - 1)  # fmt: skip

    best = min(bound(1 + k / 100) for k in range(5, 20_000))
    entries = (PrivateRounds(Sampling("fixed", 10, 10), noise, rounds),)
    assert best - 1e-9 <= _by_divergences(entries, DELTA) < 1.02 * best


def test_a_fixed_size_of_all_is_no_sample():
    same = epsilon(Sampling("always", 10, 10), 3.0, 5)
    assert epsilon(Sampling("fixed", 10, 10), 3.0, 5) == pytest.approx(same, abs=1e-9)


def test_rounds_add_up_whatever_they_were():
    one, two = Sampling("poisson", 10, 100), Sampling("always", 100, 100)
    mixed, both = PrivacyLedger(DELTA), 0.0
    for sampling in (one, two):
        mixed.count(sampling, 3.0, 2)
        both += epsilon(sampling, 3.0, 2, DELTA / 2)
    assert max(epsilon(two, 3.0, 2), epsilon(one, 3.0, 2)) < mixed.epsilon() < both


def test_it_is_counted_round_by_round_and_restored():
    ledger = PrivacyLedger(DELTA)
    sampling = Sampling("poisson", 10, 100)
    foretold = ledger.epsilon_after(sampling, 2.0, 3)
    assert ledger.rounds == 0 and ledger.epsilon() == 0.0
    for _ in range(3):
        ledger.count(sampling, 2.0)
    again = PrivacyLedger(DELTA)
    again.load_state_dict(ledger.state_dict())
    assert again.epsilon() == ledger.epsilon() == foretold and again.entries == ledger.entries


@pytest.mark.parametrize("row", [["poisson", 3, 2, 1.0, 1], ["odd", 1, 2, 1.0, 1], ["fixed", 1, 2, -1.0, 1], ["fixed", 1, 2, 1.0, 0]])  # fmt: skip
def test_rows_that_cannot_be_are_refused(row):
    with pytest.raises(ValueError, match="privacy ledger"):
        PrivacyLedger(DELTA).load_state_dict([row])
