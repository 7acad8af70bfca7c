"""Dense distillation between detectors that share an anchor grid, without labels.

Every anchor is weighted by the teacher's confidence `q = max_c sigmoid(teacher scores)`, and every loss is
divided by the sum of q over the batch (at least 1): a batch in which the teacher finds nothing adds almost
nothing. Raw outputs are the dicts of the detectors in `lkd.models`.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import complete_box_iou_loss

from lkd.checks import expect
from lkd.losses.boxes import box_bins, decode_boxes, require
from lkd.losses.inputs import prepare
from lkd.losses.term import Term

Raw = Mapping[str, Any]


def dense_class_loss(student: Raw, teacher: Raw) -> Tensor:
    """Computes the cross-entropy of sigmoids with soft targets, weighted by their distance.

    `sum |p - t| BCE(p, t) / max(sum q, 1)` with p, t the sigmoids of both, summed over classes and anchors,
    and q the teacher's highest score of an anchor. All anchors count: where the teacher sees nothing, the
    student learns to see nothing. A softmax over classes would be constant, and its KL 0, for one class.

    It is the quality focal loss with exponent 1 (Li et al.: Generalized Focal Loss, NeurIPS 2020,
    arXiv:2006.04388) on a teacher's scores. The factor `|p - t|` takes part in the gradient.

    Args:
        student: Raw outputs with class logits `scores (B, nc, A)`.
        teacher: Raw outputs of the teacher; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If classes, anchors or batch sizes differ.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 2), torch.full((1, 1, 2), 20.0)
        >>> dense_class_loss({"scores": student}, {"scores": teacher})  # .5 log 2
        tensor(0.3466)
    """
    ours, theirs = _scores(student, teacher)
    target = theirs.sigmoid()
    loss = (
        F.binary_cross_entropy_with_logits(ours, target, reduction="none") * (ours.sigmoid() - target).abs()
    )
    return loss.sum() / target.amax(1).sum().clamp_min(1.0)


def localization_loss(student: Raw, teacher: Raw, temperature: float = 2.0) -> Tensor:
    """Computes `T² KL` between the distributions of each box side, mean over the four sides, weighted by q.

    Zheng et al.: Localization Distillation for Dense Object Detection, CVPR 2022, arXiv:2102.12252, summed
    over the bins and with T².

    Args:
        student: Raw outputs with `scores (B, nc, A)` and `boxes (B, 4 reg_max, A)`.
        teacher: Raw outputs of the teacher; no gradient flows into them.
        temperature: T, above 0.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If classes, anchors, batch sizes or reg_max differ, or reg_max is 1: such a head predicts
            distances and has no distribution.

    Example:
        >>> grid = {"scores": torch.zeros(1, 1, 3), "anchors": torch.zeros(3, 2), "strides": torch.ones(3)}
        >>> outputs = {**grid, "boxes": torch.ones(1, 64, 3)}
        >>> localization_loss(outputs, outputs)
        tensor(0.)
    """
    expect(temperature=temperature, gt=0)
    _, scores = _scores(student, teacher)
    ours, theirs = prepare(box_bins(student), box_bins(teacher))
    if ours.shape != theirs.shape or ours.shape[2] == 1:
        raise ValueError(
            "localisation distillation compares distributions of equally many bins, above 1, but student "
            f"has reg_max {ours.shape[2]} and teacher {theirs.shape[2]}: leave it out (ld=0)"
        )
    ours, theirs = (F.log_softmax(x / temperature, 2) for x in (ours, theirs))
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(2).mean(1)
    return _weighted_mean(divergence, _confidence(scores)) * temperature**2


def dense_box_loss(student: Raw, teacher: Raw, threshold: float = 0.05) -> Tensor:
    """Computes the complete-IoU loss of the decoded boxes, weighted by q, where q is above `threshold`.

    Zheng et al.: Distance-IoU Loss, AAAI 2020, arXiv:1911.08287, Section "Complete IoU Loss". It needs no
    equal reg_max, so heads may differ. Sides below 1 pixel, inverted ones included, count as 1 pixel.

    Args:
        student: Raw outputs with `scores`, `boxes`, `anchors` and `strides`.
        teacher: Raw outputs of the teacher; no gradient flows into them.
        threshold: Confidence in [0, 1] above which a teacher's box is followed.

    Returns:
        The loss, a scalar of at least float32; 0 where no box is confident enough.

    Raises:
        ValueError: If classes, anchors or batch sizes differ.

    Example:
        >>> grid = {"scores": torch.ones(1, 1, 1), "anchors": torch.zeros(1, 2), "strides": torch.ones(1)}
        >>> small, large = torch.ones(1, 4, 1), 2 * torch.ones(1, 4, 1)
        >>> dense_box_loss({**grid, "boxes": small}, {**grid, "boxes": large})  # q (1 - 4/16)
        tensor(0.5483)
    """
    _, scores = _scores(student, teacher)
    confidence = _confidence(scores)
    followed = confidence > threshold
    ours, theirs = prepare(decode_boxes(student), decode_boxes(teacher))
    loss = complete_box_iou_loss(_upright(ours[followed]), _upright(theirs[followed]))
    return (loss * confidence[followed]).sum() / confidence.sum().clamp_min(1.0)


class DenseDetection(Term):
    """Dense distillation of a detector's raw outputs: classes, box distributions and boxes; no labels.

    The three parts are `dense_class_loss`, `localization_loss` and `dense_box_loss`; a part of weight 0 is
    not computed. Teacher and student must see images of one size, so that their anchors line up.

    Args:
        temperature: T of the box distributions, above 0.
        cls: Weight of the classes.
        ld: Weight of the box distributions; 0 for heads without bins or with different numbers of them.
        iou: Weight of the boxes.
        weight: Factor of the sum.
        student_layer: Where the student's raw outputs are tapped; its own output by default.
        teacher_layer: Where the teacher's are tapped.

    Raises:
        ValueError: If no part has a weight, or the temperature is not above 0.

    Example:
        >>> grid = {"scores": torch.zeros(1, 1, 2), "anchors": torch.zeros(2, 2), "strides": torch.ones(2)}
        >>> outputs = {**grid, "boxes": torch.ones(1, 64, 2)}
        >>> DenseDetection()(outputs, outputs).item() < 1e-6
        True
    """

    raw = True

    def __init__(
        self,
        temperature: float = 2.0,
        cls: float = 1.0,
        ld: float = 0.5,
        iou: float = 2.0,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        if not (cls or ld or iou):
            raise ValueError("DenseDetection needs a weight in at least one of cls, ld and iou, got 0 in all")
        expect(temperature=temperature, gt=0)
        self.temperature = temperature
        self.cls = cls
        self.ld = ld
        self.iou = iou

    def forward(
        self, student: Raw, teacher: Raw, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the weighted sum of the parts from the raw outputs of both."""
        parts = []
        if self.cls:
            parts.append(self.cls * dense_class_loss(student, teacher))
        if self.ld:
            parts.append(self.ld * localization_loss(student, teacher, self.temperature))
        if self.iou:
            parts.append(self.iou * dense_box_loss(student, teacher))
        return torch.stack(parts).sum()


def _scores(student: Raw, teacher: Raw) -> tuple[Tensor, Tensor]:
    require(student, "scores")
    require(teacher, "scores")
    ours, theirs = prepare(student["scores"], teacher["scores"])
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"student has {ours.shape[1]} classes, teacher {theirs.shape[1]}: dense distillation needs the "
            "same classes in the same order (map the teacher's onto the student's)"
        )
    if ours.shape[2] != theirs.shape[2]:
        raise ValueError(
            f"student has {ours.shape[2]} anchors, teacher {theirs.shape[2]}: dense distillation needs "
            "images of one size for both (did the teacher see larger ones?)"
        )
    return ours, theirs


def _confidence(scores: Tensor) -> Tensor:
    return scores.sigmoid().amax(1)


def _weighted_mean(loss: Tensor, confidence: Tensor) -> Tensor:
    """Averages `(B, A)` by the teacher's confidence; the floor keeps empty scenes from being blown up."""
    return (loss * confidence).sum() / confidence.sum().clamp_min(1.0)


def _upright(boxes: Tensor) -> Tensor:
    """Gives sides below 1 pixel, inverted ones included, a length of 1, around the same center.

    The IoU is undefined for such boxes, which a head that predicts plain distances can produce. Only the
    value is raised: the gradient passes as if nothing had happened, so that both ends of the side recover.
    """
    corner, opposite = boxes[:, :2], boxes[:, 2:]
    missing = (1 - (opposite - corner).detach()).clamp_min(0) / 2
    return torch.cat([corner - missing, opposite + missing], 1)
