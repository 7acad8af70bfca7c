"""When predictions are cheaper than weights."""

import math
from typing import Any

from lkd.compare.results import Results
from lkd.metrics.tables import Row


def break_even(results: Results) -> list[Row]:
    """A row for each method that is no baseline, from its real model and the tensors that its clients exchanged.

    Weights cost P values a client, round and direction, predictions N times V: they are cheaper in the same
    number format if and only if N V < P. P are the values that averaging would send of a client's model (the mean over the
    clients, where they differ), V those of a public sample, both directions averaged, of which one may have none.

    Returns:
        `method`, `weights` (P), `values_up` and `values_down` (V each way; None if no predictions travel), `samples` (N,
        public samples that a client told of, or was told of if clients tell nothing, each time), `break_even` (the largest N that is cheaper),
        `bytes_a_turn` (of a client in a round, up and down), `of_weights` (that, as a share of what the weights would be in 4
        bytes each).
    """
    rows = []
    for method, chosen in results.grid.methods.items():
        mine = [r for run, r in results.done.items() if run.method == method and r["exchanged"]]
        turns = _sum(mine, "turns")
        if chosen.baseline or not mine or not turns:
            continue
        weights = sum(r["weights"] for r in mine) / len(mine)
        up = _per(_sum(mine, "told"), _sum(mine, "told_samples"))
        down = _per(_sum(mine, "sent"), _sum(mine, "sent_samples"))
        told = _per(_sum(mine, "told_samples"), _sum(mine, "told_times"))
        both = (up or 0.0) + (down or 0.0)
        bytes_a_turn = sum(r["bytes_down"] + r["bytes_up"] for r in mine) / turns
        rows.append(
            {
                "method": method,
                "weights": weights,
                "values_up": up,
                "values_down": down,
                "samples": told or _per(_sum(mine, "sent_samples"), _sum(mine, "sent_times")),
                "break_even": largest(weights, both / 2) if both else None,
                "bytes_a_turn": bytes_a_turn,
                "of_weights": bytes_a_turn / (2 * 4 * weights) if weights else None,
            }
        )
    return rows


def largest(weights: float, values: float) -> int:
    """The most public samples whose predictions are cheaper than the weights: N V < P.

    Example:
        >>> largest(4074, 10), largest(4070, 10), largest(5, 10)
        (407, 406, 0)
    """
    return max(0, math.ceil(weights / values) - 1)


def sentences(rows: list[Row]) -> list[str]:
    """What the rows say, a sentence for each method."""
    return [_with_predictions(row) if row["break_even"] is not None else _without(row) for row in rows]


def _with_predictions(row: Row) -> str:
    up, down = row["values_up"], row["values_down"]
    ways = [f"{v:.4g} {way}" for v, way in ((up, "up"), (down, "down")) if v is not None]
    each = (
        f"{up:.4g} values a public sample each way"
        if up == down
        else f"{' and '.join(ways)} values a public sample"
    )
    n = row["samples"]
    verdict = ""
    if n is not None:
        side = "cheaper" if n <= row["break_even"] else "dearer"
        verdict = f"; here a client {'told' if up else 'was told'} of {n:,.0f} at a time, so it was {side} ({_share(row)})"
    return (
        f"{row['method']}: with {row['weights']:,.0f} parameters and {each}, "
        f"distillation is cheaper than exchanging weights with up to {row['break_even']:,} public samples a round{verdict}."
    )


def _without(row: Row) -> str:
    return (
        f"{row['method']}: no predictions of public samples travel, so it does not depend on their number; "
        f"a client and round cost {row['bytes_a_turn'] / 1e3:,.4g} kB ({_share(row)})."
    )


def _share(row: Row) -> str:
    return (
        f"{row['of_weights']:.2g} times the bytes of its weights, up and down"
        if row["of_weights"]
        else "no weights"
    )


def _sum(results: list[dict[str, Any]], name: str) -> float:
    return float(sum(r["exchanged"].get(name, 0) for r in results))


def _per(amount: float, number: float) -> float | None:
    return amount / number if number else None
