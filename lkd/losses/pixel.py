"""Distillation of class scores pixel by pixel, for segmentation."""

import torch.nn.functional as F
from torch import Tensor

from lkd.checks import expect
from lkd.losses.divergence import kl_divergence
from lkd.losses.inputs import prepare
from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.scores import require_classes


def pixel_kd_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    resize: bool = False,
    labels: Tensor | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """Computes `T² KL(softmax(teacher / T) ‖ softmax(student / T))` of each pixel, mean over all pixels.

    Liu et al.: Structured Knowledge Distillation for Semantic Segmentation, CVPR 2019, arXiv:1903.04197,
    Equation 1 (its pixel-wise part, which the paper weights by 10). The authors' code has the soft
    cross-entropy, with the same gradient, summed over the batch. The temperature T and leaving pixels out are
    additions.

    Args:
        student: Logits `(B, C, H, W)`, at least two classes.
        teacher: Logits `(B, C, H', W')`; no gradient flows into them.
        temperature: T, above 0. Default 1, as in the paper.
        resize: Whether teacher's logits of another size are resized to the student's, bilinearly. Default:
            refused.
        labels: Classes `(B, H, W)`, of any size, resized to the nearest pixel; only with `ignore_index`.
        ignore_index: Label whose pixels are left out, as the student's own loss leaves them out. Default:
            none.

    Returns:
        The loss, a scalar of at least float32; 0 if all pixels are left out.

    Raises:
        ValueError: If the shapes do not match, labels are missing, or the temperature is not above 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2, 1, 2), torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]])
        >>> pixel_kd_loss(student, teacher)  # the second pixel agrees
        tensor(0.1639)
    """
    expect(temperature=temperature, gt=0)
    student, teacher = prepare(student, teacher)
    if student.dim() != 4 or teacher.dim() != 4 or student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"pixel-wise logits must have the shape (B, C, H, W) with the same classes in the same order, got "
            f"{tuple(student.shape)} of the student and {tuple(teacher.shape)} of the teacher"
        )
    require_classes(student)
    if student.shape[2:] != teacher.shape[2:]:
        if not resize:
            raise ValueError(
                f"the student's logits have {tuple(student.shape[2:])} pixels, the teacher's {tuple(teacher.shape[2:])}: give "
                "resize=True to resize the teacher's to the student's"
            )
        teacher = F.interpolate(teacher, student.shape[2:], mode="bilinear", align_corners=False)
    log_p, log_q = (F.log_softmax(logits / temperature, 1).movedim(1, -1) for logits in (student, teacher))
    distance = kl_divergence(log_p, log_q) * temperature**2
    if ignore_index is None:
        return distance.mean()
    counts = _counts(labels, distance, ignore_index)
    return (distance * counts).sum() / counts.sum().clamp_min(1)


class PixelKD(PairwiseTerm):
    """Pixel-wise distillation of logits, `pixel_kd_loss`; several layers are averaged.

    Args:
        temperature: T, above 0.
        resize: Whether teacher's logits of another size are resized to the student's.
        ignore_index: Label whose pixels are left out; the term then reads labels `(B, H, W)`.
        weight: Factor of the loss.
        student_layer: Layer that gives the student's logits `(B, C, H, W)`.
        teacher_layer: Layer that gives the teacher's.

    Example:
        >>> import torch
        >>> PixelKD()(torch.zeros(2, 5, 4, 4), torch.zeros(2, 5, 4, 4))
        tensor(0.)
    """

    def __init__(
        self,
        temperature: float = 1.0,
        resize: bool = False,
        ignore_index: int | None = None,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(temperature=temperature, gt=0)
        self.temperature = temperature
        self.resize, self.ignore_index = resize, ignore_index
        self.needs_labels = ignore_index is not None

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Computes `pixel_kd_loss` of one layer."""
        return pixel_kd_loss(student, teacher, self.temperature, self.resize, labels, self.ignore_index)


def _counts(labels: Tensor | None, distance: Tensor, ignore_index: int) -> Tensor:
    """Returns 1 where a pixel `(B, H, W)` counts, else 0."""
    if labels is None or labels.dim() not in (3, 4) or labels.shape[0] != distance.shape[0]:
        raise ValueError(
            f"ignore_index={ignore_index} needs labels (B, H, W), got "
            f"{'none' if labels is None else tuple(labels.shape)}: give the batch's label map, or leave ignore_index out"
        )
    if labels.dim() == 4 and labels.shape[1] != 1:
        raise ValueError(f"labels must be classes (B, H, W), got {tuple(labels.shape)}: give no one-hot maps")
    kept = (labels.reshape(len(labels), 1, *labels.shape[-2:]) != ignore_index).to(distance)
    return F.interpolate(kept, distance.shape[1:], mode="nearest")[:, 0]
