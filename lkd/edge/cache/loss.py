"""How far answers are from what is kept of them."""

import torch
from torch import Tensor

from lkd.edge.cache.distance import alike, distances
from lkd.edge.cache.layout import SampleRows


def apart(one: SampleRows, other: SampleRows, tolerance: float) -> Tensor:
    """Returns for each sample how far two answers are apart, relative to its norm.

    For detections the distance is 0 if they are the same, else 1.

    Args:
        one: Rows of the one answer.
        other: Rows of the other answer.
        tolerance: Relative distance up to which detections are the same.

    Example:
        >>> rows, others = (SampleRows({"0": torch.tensor([[1.0], [value]])}, {}) for value in (1.0, 1.5))
        >>> apart(rows, others, 1e-3)
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    off = [distances(one.columns[name], other.columns[name]) for name in one.columns]
    for name, found in one.each.items():
        pairs = zip(found, other.each[name], strict=True)
        off.append(torch.tensor([0.0 if alike(*pair, tolerance) else 1.0 for pair in pairs]).double())
    return torch.stack(off).amax(0)


def lost(rows: SampleRows, back: SampleRows) -> str:
    """Describes in words what answers lose when less of them is kept.

    Example:
        >>> lost(SampleRows({"0": torch.zeros(1, 2)}, {}), SampleRows({"0": torch.tensor([[0.0, 0.5]])}, {}))
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
