"""Self-distillation of a network's exits: the deepest teaches the others (Be Your Own Teacher)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.feature import fitnets_loss
from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss


def byot_loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    features: Sequence[Tensor] | None = None,
    temperature: float = 3.0,
    alpha: float = 0.3,
    hint_weight: float = 0.03,
) -> Tensor:
    """Computes the sum over a network's C exits of label loss, imitation of the deepest exit, and hint.

    `CE(z_C, y) + Σ_{i<C} [(1 - alpha) CE(z_i, y) + alpha T² KL(p_C ‖ p_i) + hint_weight MSE(F_i, F_C)]`: the
    deepest exit learns from labels alone, and is a constant to the others. All terms are means over the
    batch, KL is summed over classes, MSE is a mean over all elements.

    **Here alpha weights the imitation**, as in the paper. Zhang et al.: Be Your Own Teacher, ICCV 2019,
    arXiv:1905.08094, Section 3 (its three sources of loss; alpha and the hint's weight are zero for the
    deepest exit). T = 3 and alpha = 0.3 are the defaults of the authors' code of a later version. T² is our
    addition, as in `kd_loss`. That the hint is a mean is our choice, and so its weight; the paper has a
    squared norm.

    Args:
        logits: C tensors `(B, classes)` from the shallowest exit to the deepest, at least two.
        labels: True classes `(B,)`, int64.
        features: C maps or vectors in the same order, all with the deepest's channels; `None` for no hint.
        temperature: T, above 0.
        alpha: Weight of the imitation against the labels in the shallow exits, in [0, 1].
        hint_weight: Weight of the hint, 0 or more.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If there are fewer than two exits or classes, the numbers or shapes differ, or a weight is
            out of range.

    Example:
        >>> import torch
        >>> shallow, deep = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> byot_loss([shallow, deep], torch.tensor([0]), temperature=1.0, alpha=0.5)  # .1269 + .5 (.6931 + .3278)
        tensor(0.6374)
    """
    if len(logits) < 2:
        raise ValueError(f"self-distillation needs at least 2 exits, got logits of {len(logits)}")
    if features is not None and len(features) != len(logits):
        raise ValueError(f"there are logits of {len(logits)} exits, but features of {len(features)}")
    expect(alpha=alpha, ge=0, le=1, why="the share of the imitation in a shallow exit's loss")
    expect(hint_weight=hint_weight, ge=0)
    *shallow, deepest = logits
    loss = F.cross_entropy(full_precision(deepest), labels)
    for i, own in enumerate(shallow):
        loss = loss + (1 - alpha) * F.cross_entropy(full_precision(own), labels)
        loss = loss + alpha * kd_loss(own, deepest, temperature)
        if features is not None:
            loss = loss + hint_weight * fitnets_loss(features[i], features[-1])
    return loss
