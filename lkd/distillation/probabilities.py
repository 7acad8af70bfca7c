"""A check that losses with a softmax are given logits, and not probabilities."""

from collections.abc import Iterable

from torch import Tensor

from lkd.distillation.pairing import TermPair

NEAR = 1e-3


def refuse_probabilities(pairs: Iterable[TermPair]) -> None:
    """Refuses probabilities where a loss applies a softmax: the target would be flat and teach little.

    Args:
        pairs: What the losses compare.

    Raises:
        ValueError: If every row of an output sums to one like probabilities.
    """
    for pair in pairs:
        if not pair.term.of_softmax:
            continue
        for argument, value in (("student_layer", pair.student), ("teacher_layer", pair.teacher)):
            outputs = value if isinstance(value, list) else [value]
            if any(isinstance(output, Tensor) and _sums_to_one(output) for output in outputs):
                address = getattr(pair.term, argument)
                raise ValueError(
                    f"{argument}={address!r} of {type(pair.term).__name__} gives probabilities (each row sums to 1), of which the loss would "
                    "take a softmax once more: name the layer before the softmax, or let the model return logits or log-probabilities."
                )


def _sums_to_one(rows: Tensor) -> bool:
    rows = rows.detach()
    if rows.dim() < 2 or rows.shape[-1] < 2 or not rows.numel() or not rows.is_floating_point():
        return False
    return bool((rows >= 0).all() and ((rows.double().sum(-1) - 1).abs() < NEAR).all())
