"""Logit standardization, around any loss on class scores."""

import math

import torch
from torch import Tensor

from lkd.losses.inputs import prepare
from lkd.losses.scores import require_classes
from lkd.losses.term import Term
from lkd.losses.wrapped import WrappedTerm

EPS = 1e-7


def standardize(logits: Tensor) -> Tensor:
    """Computes `(z - mean(z)) / (std(z) + 1e-7)` over the classes, with the unbiased standard deviation.

    Logits that are all equal become zeros; their gradient is finite, though as large as 1e7.

    Sun et al.: Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv:2403.01427; the constant is
    that of the authors' code.

    Args:
        logits: `(..., C)`, at least two classes.

    Returns:
        The z-scores `(..., C)`.

    Raises:
        ValueError: If there is one class only.

    Example:
        >>> standardize(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.0000,  0.0000,  1.0000]])
    """
    require_classes(logits, -1)
    centered = logits - logits.mean(-1, keepdim=True)
    # the norm, unlike torch.std, has a gradient where all logits are equal
    norm = torch.linalg.vector_norm(centered, dim=-1, keepdim=True)
    return centered / (norm / math.sqrt(logits.shape[-1] - 1) + EPS)


class Standardized(WrappedTerm):
    """Term on the z-scores of both logits (`standardize`), so that the scale of the logits is free.

    Weight and layers are those of the inner term. The authors combine it with KD at T = 2 and weight 9,
    beside .1 of the hard-label loss. Around `MultiTeacher` it standardizes each teacher by itself, before
    they are weighted and averaged; use this order. It needs three classes: the z-scores of two are always the
    same.

    Args:
        term: The inner term, such as KD, DKD, DIST, NKD or a dissimilarity.

    Raises:
        TypeError: If the inner term is no term.
        ValueError: If it is a term on sigmoids, whose labels have no common scale.

    Example:
        >>> from lkd.losses import KD
        >>> student = torch.tensor([[1.0, 2.0, 3.0]])
        >>> Standardized(KD(temperature=2.0, weight=9.0))(student, 5 * student + 1).abs() < 1e-6
        tensor(True)
    """

    def __init__(self, term: Term) -> None:
        super().__init__(term)
        if term.of_sigmoids:
            raise ValueError(
                f"term={type(term).__name__} takes each logit by itself, and standardizing mixes them: leave Standardized out."
            )

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes the inner term on z-scores of one layer."""
        student, teacher = prepare(student, teacher)
        if student.dim() != 2:
            raise ValueError(f"Standardized takes logits (B, C), got {tuple(student.shape)} of the student")
        if student.shape[1] == 2:
            raise ValueError(
                "Standardized with 2 classes: the z-scores of two numbers are always -0.71 and 0.71, so that the loss has no gradient; "
                f"give {type(self.term).__name__} by itself"
            )
        return self.term(standardize(student), standardize(teacher), labels=labels)
