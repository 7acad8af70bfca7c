"""Splits of whole people: named people, and a draw for the parts without names."""

from collections.abc import Collection, Sequence

import numpy as np

from lkd.datamodules.samples.splits import Splits, pick
from lkd.natural_order import natural_key


def by_person(
    everybody: Collection[str],
    fractions: Sequence[float],
    val: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    seed: int = 0,
) -> Splits:
    """Puts every person into one part.

    Args:
        everybody: names of all people.
        fractions: shares (train, val, test) of the people, rounded to whole ones.
        val: people to validate on; `None` draws as many as the share says.
        test: people to test on; `None` draws likewise.
        seed: seed of the draw.

    Raises:
        ValueError: for an unknown name, a name in both parts, nobody left to train on, or a share above 0
            that rounds to nobody.

    Example:
        >>> [len(part) for part in by_person(["s1", "s2", "s3", "s4"], (0.5, 0.25, 0.25))]
        [2, 1, 1]
        >>> by_person(["s1", "s2", "s3"], (1.0, 0.0, 0.0), test=["s2"]).test
        ['s2']
    """
    named = {"test": test, "val": val}
    held = {
        part: pick(f"{part}_subjects", names, everybody) for part, names in named.items() if names is not None
    }
    if both := {*held.get("val", ())} & {*held.get("test", ())}:
        raise ValueError(f"{min(both)!r} is in val_subjects and in test_subjects: choose one.")
    left = sorted(set(everybody).difference(*held.values()), key=natural_key)
    left = np.random.default_rng(seed).permutation(left).tolist()
    first, second = (int(share * len(everybody) + 0.5 + 1e-9) for share in np.cumsum(fractions)[:2])
    for part, count in (("test", len(everybody) - second), ("val", second - first)):
        if part not in held:
            share = fractions[("train", "val", "test").index(part)]
            if share > 0 and not count:
                raise ValueError(
                    f"fractions={tuple(fractions)} leaves nobody of {len(everybody)} people to {part}: give it a larger share, or 0."
                )
            held[part], left = left[:count], left[count:]
    if not left:
        raise ValueError(
            f"nobody of {len(everybody)} people is left to train on: name fewer val_subjects and test_subjects, or give fractions="
            f"{tuple(fractions)} a larger first share."
        )
    return Splits(left, held["val"], held["test"])
