"""Distillation of class scores by a choice of dissimilarity between the two distributions."""

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.divergence import (
    js_divergence,
    kl_divergence,
    multivariate_sed,
    soft_cross_entropy,
    structural_entropic_distance,
    triangular_discrimination,
)
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import prepare_classes, prepare_teachers, require_classes

Measure = Literal["ce", "kl", "js", "triangular", "sed", "msed"]

PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": soft_cross_entropy,
    "kl": kl_divergence,
    "js": js_divergence,
    "triangular": triangular_discrimination,
    "sed": structural_entropic_distance,
}


def dissimilarity_loss(
    student: Tensor, teacher: Tensor, measure: Measure = "js", temperature: float = 4.0
) -> Tensor:
    """Computes `T² D(softmax(student / T), softmax(teacher / T))`, mean over the batch.

    D sums over the classes; with p of the student, q of the teacher, `m = (p + q) / 2`, `C = exp(entropy)`:

    - `"ce"`: `-sum q log p`, whose minimum is the entropy of q;
    - `"kl"`: `KL(q ‖ p)`, which makes this `kd_loss`;
    - `"js"`: `KL(p ‖ m) / 2 + KL(q ‖ m) / 2`;
    - `"triangular"`: `1 - sum 2 p q / (p + q)`;
    - `"sed"`: the structural entropic distance `C(m) / sqrt(C(p) C(q)) - 1`, which is `exp(JS) - 1`;
    - `"msed"`: `(C(mean) / prod C(p_i)^(1/n) - 1) / (n - 1)` over the student and all teachers, n in all;
      with one teacher it is `"sed"`.

    All but the first are 0 for equal logits. Where two distributions hardly overlap, the last four level off
    and teach little, while the first two grow without end.

    Molo et al., SISAP 2024 (LNCS 15268, pages 140 to 154), and Future Generation Computer Systems 176
    (10.1016/j.future.2025.108171), whose measures these are. Their code sums D over the batch and leaves T²
    out; the mean and the factor, which keep the size of the gradient when batch or T change, are our choice,
    and so is the default temperature.

    Args:
        student: Logits `(B, C)`, at least two classes.
        teacher: Logits `(B, C)`, or for `"msed"` of several teachers `(B, K, C)`; no gradient flows into
            them.
        measure: One of the above. Default `"js"`.
        temperature: T, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the measure is not known, the shapes do not match, there is one class only, or the
            temperature is not above 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> dissimilarity_loss(student, teacher, "kl", temperature=1.0)
        tensor(1.5232)
        >>> dissimilarity_loss(student, teacher, "js", temperature=1.0)
        tensor(0.3278)
    """
    expect(temperature=temperature, gt=0)
    expect(measure=measure, among=get_args(Measure))
    if measure == "msed":
        teachers = teacher[:, None] if isinstance(teacher, Tensor) and teacher.dim() == 2 else teacher
        student, teachers = prepare_teachers(student, teachers)
        require_classes(student)
        distance = multivariate_sed(_log_p(student, temperature), _log_p(teachers, temperature))
    else:
        student, teacher = prepare_classes(student, teacher)
        distance = PAIRWISE[measure](_log_p(student, temperature), _log_p(teacher, temperature))
    return distance.mean() * temperature**2


class Dissimilarity(PairwiseTerm):
    """Distillation by a dissimilarity, `dissimilarity_loss`; several layers are averaged.

    Args:
        measure: `"ce"`, `"kl"`, `"js"`, `"triangular"`, `"sed"` or `"msed"`. The last takes the logits of one
            teacher or of a `lkd.teachers.Ensemble`; for several teachers wrap the others in `MultiTeacher`.
        temperature: T, above 0.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> import torch
        >>> Dissimilarity("sed")(torch.zeros(2, 5), torch.zeros(2, 5))
        tensor(0.)
    """

    of_softmax = True

    def __init__(
        self,
        measure: Measure = "js",
        temperature: float = 4.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(measure=measure, among=get_args(Measure))
        self.measure = measure
        expect(temperature=temperature, gt=0)
        self.temperature = temperature

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `dissimilarity_loss` of one layer."""
        return dissimilarity_loss(student, teacher, self.measure, self.temperature)


def _log_p(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, -1)
