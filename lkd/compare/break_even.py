"""When predictions are cheaper than weights."""

import math
from typing import Any

from lkd.compare.results import GridResults
from lkd.metrics.tables import Row


def break_even(results: GridResults) -> list[Row]:
    """Compares predictions with weights for each method that is no baseline, from what its runs exchanged.

    Weights cost P values per client, round and direction; predictions cost N times V. In the same number
    format they are cheaper if and only if N V < P. P counts the values of a client's model that averaging
    would send (the mean over the clients, where they differ). V counts the values of a public sample,
    averaged over both directions; one direction may have none.

    Returns:
        `method`, `weights` (P), `values_up` and `values_down` (V each way; None if no predictions travel),
        `samples` (N: public samples per reply, or per message where clients send no predictions),
        `break_even` (the largest N that is cheaper), `bytes_a_turn` (of one client in one round, up and
        down), `of_weights` (these bytes divided by those of the weights with 4 bytes per value).
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
    """Returns the largest number N of public samples whose predictions are cheaper than the weights: N V < P.

    Example:
        >>> largest(4074, 10), largest(4070, 10), largest(5, 10)
        (407, 406, 0)
    """
    return max(0, math.ceil(weights / values) - 1)


def sentences(rows: list[Row]) -> list[str]:
    """Puts each row into a sentence."""
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
