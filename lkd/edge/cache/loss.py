"""How far answers are from those that are kept of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lkd.edge.cache.distance import alike, distance
from lkd.edge.cache.layout import Rows


def apart(one: Rows, other: Rows) -> float:
    """How far two answers are apart, as a share of their norm; detections are the same or not."""
    off = [distance(one.columns[name].cpu(), other.columns[name].cpu()) for name in one.columns]
    pairs = [pair for name in one.each for pair in zip(one.each[name], other.each[name], strict=True)]
    return max([0.0, *off, *(0.0 if alike(*_on_cpu(pair)) else 1.0 for pair in pairs)])


def lost(rows: Rows, back: Rows) -> str:
    """What becomes of answers that are kept with less, in words.

    Example:
        >>> lost(Rows({"0": torch.zeros(1, 2)}, {}), Rows({"0": torch.tensor([[0.0, 0.5]])}, {}))
        'off by 0.5 at most, 0.25 in the mean, over 1 samples; KL divergence 0.031.'
    """
    pairs = [(rows.columns[n], back.columns[n]) for n in rows.columns if rows.columns[n].is_floating_point()]
    for name, found in rows.each.items():
        pairs += [
            (a[k], b[k])
            for a, b in zip(found, back.each[name], strict=True)
            for k in a
            if a[k].is_floating_point()
        ]
    off = (
        torch.cat([(a.float() - b.float().to(a.device)).abs().reshape(-1) for a, b in pairs])
        if pairs
        else torch.zeros(1)
    )
    count = len(next(iter(rows.columns.values()), next(iter(rows.each.values()), [])))
    said = f"off by {float(off.max()) if len(off) else 0:.2g} at most, {float(off.mean()) if len(off) else 0:.2g} in the mean, over {count} samples"
    if len(pairs) == 1 and pairs[0][0].ndim == 2:
        p, q = (t.float().cpu().log_softmax(1) for t in pairs[0])
        said += f"; KL divergence {float((p.exp() * (p - q)).sum(1).mean()):.2g}"
    return said + "."


def _on_cpu(pair: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    return [{name: tensor.cpu() for name, tensor in found.items()} for found in pair]
