"""Losses of the heads of single modalities: with labels, and with the joint prediction of all modalities."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss

Present = Mapping[str, Tensor | None]
"""Which samples have a modality, bools `(B,)`; None if all are known to have it."""


def unimodal_loss(heads: Mapping[str, Tensor], present: Present, labels: Tensor) -> Tensor:
    """Computes the cross-entropy of each modality's head on the samples that have it, a mean over both.

    Args:
        heads: Logits `(B, C)` by modality; rows of samples without it do not count.
        present: Bools `(B,)` by modality, or None for all of the batch.
        labels: Class labels `(B,)`.

    Returns:
        The loss, a scalar of at least float32; the mean is over modalities that some sample has.

    Example:
        >>> there = torch.tensor([True, False])
        >>> unimodal_loss({"a": torch.zeros(2, 2)}, {"a": there}, torch.tensor([0, 1]))
        tensor(0.6931)
    """
    return _mean(heads, present, lambda own, rows: F.cross_entropy(full_precision(own), _of(labels, rows)))


def agreement_loss(heads: Mapping[str, Tensor], present: Present, fused: Tensor) -> Tensor:
    """Computes `KL(softmax(fused) ‖ softmax(head))` of each modality's head, averaged as in `unimodal_loss`.

    Summed over classes. The fused logits teach, and get no gradient.

    Args:
        heads: Logits `(B, C)` by modality; rows of samples without it do not count.
        present: Bools `(B,)` by modality, or None for all of the batch.
        fused: Logits `(B, C)`; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Example:
        >>> there = torch.tensor([True, False])
        >>> agreement_loss({"a": torch.zeros(2, 2)}, {"a": there}, torch.zeros(2, 2))
        tensor(0.)
    """
    return _mean(heads, present, lambda own, rows: kd_loss(own, _of(fused, rows), temperature=1.0))


def _mean(
    heads: Mapping[str, Tensor], present: Present, loss: Callable[[Tensor, Tensor | None], Tensor]
) -> Tensor:
    found = [
        loss(_of(logits, rows), rows)
        for rows, logits in ((present[m], logits) for m, logits in heads.items())
        if rows is None or rows.any()
    ]
    if not found:
        raise ValueError(f"no sample of the batch has any of the modalities {', '.join(heads)}.")
    return torch.stack(found).mean()


def _of(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]
