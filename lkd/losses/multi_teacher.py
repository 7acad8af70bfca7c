"""Several teachers at once: their mean as one teacher, or a loss for each."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.scores import mean_of, prepare_teachers, split_ignored
from lkd.losses.teacher_weights import confidence_weights, entropy_weights
from lkd.losses.term import Term
from lkd.losses.wrapped import WrappedTerm

Combine = Literal["probabilities", "logits", "losses"]
Weighting = Literal["uniform", "entropy", "confidence"]


def mean_probabilities(teachers: Tensor, weights: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes logits whose softmax at T is the weighted mean of the teachers' softmax at T.

    They are `T log sum_k w_k softmax(z_k / T)`, the arithmetic mean of the predictions. The weighted mean of
    the logits is instead their normalized geometric mean, which a single teacher with large logits can
    dominate.

    Args:
        teachers: Logits `(B, K, C)`.
        weights: Weights `(B, K)` or `(K,)` that sum to 1.
        temperature: T, above 0.

    Returns:
        Logits `(B, C)`.

    Example:
        >>> teachers = torch.tensor([[[0.0, 0.0], [100.0, 0.0]]])
        >>> mean_probabilities(teachers, torch.tensor([0.5, 0.5])).softmax(1)
        tensor([[0.7500, 0.2500]])
    """
    expect(temperature=temperature, gt=0)
    weighted = F.log_softmax(teachers / temperature, -1) + weights.log()[..., None]
    return temperature * weighted.logsumexp(-2)


class MultiTeacher(WrappedTerm):
    """Term for several teachers, made of any term on class scores.

    The teachers come from `lkd.teachers.Ensemble`.

    Weight and layers are those of the inner term. How the teachers are combined:

    - `"probabilities"`: the term sees one teacher, the weighted mean of the softened predictions
      (`mean_probabilities`) at the term's own temperature. (Of NKD, whose first part is not softened, it is
      the exact mean at temperature 1 only.)
    - `"logits"`: the term sees the weighted mean of the logits, which is how Molo et al. (2025) average.
    - `"losses"`: decoupled, `sum_k w_k term(student, teacher_k)`; weights of 1 each make it the pairwise sum.

    For CE and KL with weights that sum to 1, the first and the last have the same gradient.

    Args:
        term: The inner term, such as KD, DKD, DIST, NKD or a dissimilarity.
        combine: One of the three above. Default `"probabilities"`.
        weighting: `"uniform"` (1 / K each); one number for each teacher (0 or more; except for `"losses"`
            they sum to 1); or weights for each sample, `"entropy"` (`entropy_weights`) or `"confidence"`
            (`confidence_weights`, which reads labels). These are computed from the teachers' logits at
            temperature 1.

    Raises:
        TypeError: If the inner term is no term.
        ValueError: If a value is unknown, or weights are negative or do not sum to 1; if the term has no
            temperature at which probabilities could be averaged; if it is a term on sigmoids, and they would
            be averaged or weighted over classes; if it compares samples with each other (DIST), and their
            losses were to be weighted one by one.

    Example:
        >>> from lkd.losses import KD
        >>> student, teachers = torch.zeros(2, 5), torch.zeros(2, 3, 5)
        >>> MultiTeacher(KD(), weighting=[0.5, 0.25, 0.25])(student, teachers)
        tensor(0.)
    """

    def __init__(
        self, term: Term, combine: Combine = "probabilities", weighting: Weighting | list[float] = "uniform"
    ) -> None:
        super().__init__(term)
        expect(combine=combine, among=("probabilities", "logits", "losses"))
        if isinstance(weighting, str):
            if weighting not in ("uniform", "entropy", "confidence"):
                raise ValueError(
                    f"weighting={weighting!r} must be 'uniform', 'entropy', 'confidence' or a list of numbers."
                )
        elif not weighting or not all(weight >= 0 for weight in weighting):
            raise ValueError(f"weighting={weighting} must hold one number a teacher, each 0 or more.")
        elif combine != "losses" and abs(sum(weighting) - 1) > 1e-6:
            raise ValueError(
                f"weighting={weighting} sums to {sum(weighting):g}, but a mean (combine={combine!r}) needs a sum of 1."
            )
        name = type(term).__name__
        if combine == "probabilities" and _temperature(term) is None:
            raise ValueError(
                f"combine='probabilities': {name} has no temperature, so it compares no probabilities; use 'logits' or 'losses'."
            )
        if term.of_sigmoids and (combine == "probabilities" or weighting in ("entropy", "confidence")):
            raise ValueError(
                f"combine={combine!r}, weighting={weighting!r}: {name} takes each logit as a probability of its own, and here the "
                "teachers' logits go through a softmax over classes; use combine='losses' or 'logits' with fixed weights."
            )
        if combine == "losses" and weighting in ("entropy", "confidence") and term.relates_samples:
            raise ValueError(
                f"weighting={weighting!r}: {name} compares the samples of a batch with each other, so its loss has no part "
                "for each sample to weigh; use combine='probabilities' or fixed weights."
            )
        self.combine, self.weighting = combine, weighting
        self.needs_labels = term.needs_labels or weighting == "confidence"

    def weights(self, teachers: Tensor, labels: Tensor | None = None) -> Tensor:
        """Computes the teachers' weights, `(B, K)` if they differ from sample to sample, else `(K,)`.

        Raises:
            ValueError: If labels are needed and missing, or the number of teachers is wrong.
        """
        count = teachers.shape[1]
        if self.weighting == "entropy":
            return entropy_weights(teachers)
        if self.weighting == "confidence":
            if labels is None:
                raise ValueError("weighting='confidence' needs labels, got none: use 'entropy' without them.")
            return confidence_weights(teachers, labels)
        fixed = [1 / count] * count if isinstance(self.weighting, str) else self.weighting
        if len(fixed) != count:
            raise ValueError(f"weighting={fixed} holds {len(fixed)} numbers, but there are {count} teachers.")
        return teachers.new_tensor(fixed)

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes the loss of one layer from the teachers' logits `(B, K, C)`."""
        student, teacher = prepare_teachers(student, teacher)
        weights = self.weights(teacher, labels)
        if self.combine == "losses":
            return self._decoupled(student, teacher, weights, labels)
        if self.combine == "logits":
            mean = (teacher * weights[..., None]).sum(1)
        else:
            mean = mean_probabilities(teacher, weights, _temperature(self.term) or 1.0)
        return self.term(student, mean, labels=labels)

    def _decoupled(self, student: Tensor, teachers: Tensor, weights: Tensor, labels: Tensor | None) -> Tensor:
        if weights.dim() == 1:
            each = [self.term(student, teacher, labels=labels) for teacher in teachers.unbind(1)]
            return (torch.stack(each) * weights).sum()

        def sample(ours: Tensor, theirs: Tensor, label: Tensor) -> Tensor:  # as a batch of one
            return self.term(ours[None], theirs[None], labels=None if labels is None else label[None])

        given = torch.zeros(len(student), device=student.device) if labels is None else labels
        each = [torch.vmap(sample)(student, teacher, given) for teacher in teachers.unbind(1)]
        losses = (torch.stack(each, 1) * weights).sum(1)
        counts = torch.ones_like(losses, dtype=torch.bool)
        if self.term.needs_labels and labels is not None:  # values cannot be checked inside of vmap
            _, counts = split_ignored(labels, *student.shape)
        return mean_of(losses, counts)


def _temperature(term: Term) -> float | None:
    """Returns the temperature of a term, or of the term inside it."""
    return next((vars(part)["temperature"] for part in term.modules() if "temperature" in vars(part)), None)
