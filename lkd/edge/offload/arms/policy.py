"""The exit that answers each sample, and the thresholds that follow from a budget; without torch."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from lkd.edge.nms import Array

COMBINATIONS = 4000
"""Most combinations of thresholds that are tried."""


def leaves(doubts: Array, thresholds: Sequence[float]) -> Array:
    """Returns the exit that answers each sample: the first with doubt below its threshold, or the deepest.

    Teerapittayanon et al.: BranchyNet, ICPR 2016, arXiv:1709.01686, Figure 2 (there the doubt is the
    entropy).

    Args:
        doubts: `(E, N)` for E exits from the shallowest to the deepest, whose own doubt is not used.
        thresholds: E - 1 thresholds, for all exits except the deepest; `inf` always answers, `-inf` never.

    Returns:
        `(N,)` int, 0 for the shallowest.

    Raises:
        ValueError: For another number of thresholds.

    Example:
        >>> leaves(np.array([[0.1, 0.6, 0.7], [0.0, 0.2, 0.9], [0.0, 0.0, 0.0]]), [0.5, 0.5]).tolist()
        [0, 1, 2]
    """
    if len(thresholds) != len(doubts) - 1:
        raise ValueError(
            f"there are {len(thresholds)} thresholds for {len(doubts)} exits: give one for each but the deepest."
        )
    answers = doubts[:-1] < np.asarray(thresholds, float)[:, None]
    found: Array = np.concatenate([answers, np.ones((1, doubts.shape[1]), bool)]).argmax(0)
    return found


class Policy(NamedTuple):
    """Thresholds, with the mean `macs` and the share of `right` answers on the data they were chosen on."""

    thresholds: tuple[float, ...]
    macs: float
    right: float


def policies(doubts: Array, right: Array, macs: Array) -> list[Policy]:
    """Returns what combinations of thresholds do: all of them, or a grid of quantiles if there are too many.

    Args:
        doubts: `(E, N)`, as in `leaves`.
        right: `(E, N)` bool, whether each exit's answer is right.
        macs: `(E,)`, multiply-accumulates of a sample that leaves at each exit.
    """
    each = max(int(COMBINATIONS ** (1 / max(len(doubts) - 1, 1))), 3)
    grids = [_candidates(row, each) for row in doubts[:-1]]
    found, columns = [], np.arange(doubts.shape[1])
    for thresholds in product(*grids):
        exits = leaves(doubts, thresholds)
        found.append(Policy(thresholds, float(macs[exits].mean()), float(right[exits, columns].mean())))
    return found


def cheapest(found: Sequence[Policy], reach: float) -> Policy:
    """Returns the policy with the fewest MACs that reaches a share of right answers.

    Raises:
        ValueError: If none reaches it; the message says what the best one reaches.
    """
    good = [policy for policy in found if policy.right >= reach - 1e-12]
    if not good:
        best = max(found, key=lambda policy: policy.right)
        raise ValueError(
            f"reach={reach:g} is reached by no thresholds on the validation data: the best have {best.right:.4f}, with {best.macs / 1e6:.4g} "
            "million MACs in the mean."
        )
    return min(good, key=lambda policy: (policy.macs, -policy.right))


def best(found: Sequence[Policy], macs: float) -> Policy:
    """Returns the policy with the most right answers whose mean MACs are within a budget.

    Raises:
        ValueError: If all take more; the message says what the cheapest takes.
    """
    good = [policy for policy in found if policy.macs <= macs * (1 + 1e-12)]
    if not good:
        least = min(policy.macs for policy in found)
        raise ValueError(
            f"a budget of {macs / 1e6:.4g} million MACs is met by no thresholds: the first exit alone takes {least / 1e6:.4g}."
        )
    return max(good, key=lambda policy: (policy.right, -policy.macs))


def _candidates(doubts: Array, most: int) -> list[float]:
    """Returns thresholds: never, just above each sample's doubt (or quantiles of them), always."""
    values = np.unique(doubts)
    if len(values) > most - 2:
        values = values[np.linspace(0, len(values) - 1, most - 2).round().astype(int)]
    above = np.nextafter(values, np.inf)
    return [-np.inf, *above[:-1].tolist(), np.inf]
