"""CrossKD: the teacher's predictions from the student's features are compared with its own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.adapters import adapt, match_channels
from lkd.losses.cross_head import Rest, cross_predictions
from lkd.losses.detection import dense_class_loss, localization_loss
from lkd.losses.inputs import levels
from lkd.losses.term import Term


class CrossKD(Term):
    """Cross-head distillation of a detector: `cls QFL + ld T² KL` of cross-head and teacher's predictions.

    The student's maps after some layer of its head run through the layers that follow in the teacher's head.
    Before that, a 1x1 convolution brings them to the teacher's width where widths differ, and
    `align_statistics` to its statistics. The result is compared with the teacher's predictions, while the
    student's own predictions learn from labels alone: the two losses never act on the same outputs. Gradients
    flow through the teacher's frozen layers into the student's maps, and the student's later layers get none
    of them.

    Over all positions of all levels together, the losses are `dense_class_loss` (quality focal loss with
    exponent 1) and `localization_loss` (KL over the bins, mean over the four sides, weighted by the teacher's
    score q), each divided by the sum of q, at least 1. The classes are the teacher's: the student's may be
    others.

    Wang et al.: CrossKD: Cross-Head Knowledge Distillation for Object Detection, CVPR 2024, arXiv:2306.11369.
    Weights and T are those of the authors' first code for GFL (later: 3 for the KL, and a GIoU loss). Their
    maps are those of the third of four convolutions, before its activation. Their sum over classes is divided
    by the number of positives of the student's label assignment, which the sum of q replaces here, as it
    needs no labels. The convolution for other widths is what they advise users to add, and not part of the
    paper.

    A YOLO head of Ultralytics has branches `cv3` (classes) and `cv2` (boxes) with two blocks and a
    convolution for each level: `"...cv3.0.0"` is the first block of the first level, and what follows are a
    block and the convolution.

    Args:
        student_scores: Layers of the student's class branches, one for each level, which give maps `(B, C, H,
            W)`. None may be followed by an activation that works in place, since it overwrites them.
        teacher_scores: Their counterparts in the teacher, of the same height and width.
        student_boxes: Layers of the student's box branches, in the order of the levels. Default: no boxes.
        teacher_boxes: Their counterparts.
        rest: How the teacher continues, one part for each layer, the class branches' first: `"head.0[2:]"`
            (the end of an `nn.Sequential`) or the name of a submodule or method. Default: what follows each
            layer in its `nn.Sequential`. It gives one prediction for each position, logits `(B, nc, ...)` and
            `(B, 4 reg_max, ...)`.
        cls: Weight of the classes.
        ld: Weight of the box distributions; 0 for heads without bins.
        temperature: T of the box distributions, above 0.
        weight: Factor of the sum.
        seed: Seed of the convolutions' initial weights.

    Raises:
        ValueError: If the layers do not pair up, a part is missing, or the temperature is not above 0.

    Example:
        >>> term = CrossKD(["head.0"], ["head.0"])
        >>> list(term.rest)
        ['head[1:]']
        >>> maps = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> term([maps], [maps], rest=[nn.Conv2d(8, 3, 1)]).item() < 1e-6
        True
    """

    relates_samples = True  # through the statistics

    def __init__(
        self,
        student_scores: str | list[str],
        teacher_scores: str | list[str],
        student_boxes: str | list[str] | None = None,
        teacher_boxes: str | list[str] | None = None,
        rest: str | list[str] | None = None,
        cls: float = 1.0,
        ld: float = 4.0,
        temperature: float = 1.0,
        weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        scores, boxes = _names(student_scores), _names(student_boxes)
        theirs = _names(teacher_scores) + _names(teacher_boxes)
        if not scores or len(scores) != len(_names(teacher_scores)) or len(scores + boxes) != len(theirs):
            raise ValueError(
                f"student_scores and student_boxes name {len(scores)} and {len(boxes)} layers, teacher_scores and "
                f"teacher_boxes {len(_names(teacher_scores))} and {len(_names(teacher_boxes))}: name equally many"
            )
        if len(boxes) not in (0, len(scores)):
            raise ValueError(
                f"student_boxes names {len(boxes)} layers, student_scores {len(scores)}: name one a level in both"
            )
        super().__init__(weight, scores + boxes, theirs)
        self.rest = [_following(layer) for layer in theirs] if rest is None else _names(rest)
        if len(self.rest) != len(theirs):
            raise ValueError(f"rest names {len(self.rest)} parts for {len(theirs)} layers: name one for each")
        self.levels = len(scores)
        self.cls = cls
        self.ld = ld if boxes else 0.0
        if not (self.cls or self.ld):
            raise ValueError("CrossKD needs a weight in cls, or boxes and a weight in ld, got 0 in all")
        expect(temperature=temperature, gt=0)
        self.temperature = temperature
        self.seed = seed

    def adapter(self, student: list[Tensor], teacher: list[Tensor]) -> nn.ModuleList | None:
        """Builds 1x1 convolutions where widths differ, without a bias, which the alignment would remove."""
        return match_channels(student, teacher, bias=False, seed=self.seed)

    def forward(
        self,
        student: list[Tensor],
        teacher: list[Tensor],
        labels: Tensor | None = None,
        adapter: nn.Module | None = None,
        rest: Sequence[Rest] = (),
    ) -> Tensor:
        """Computes the weighted sum of both parts; `rest` has what `self.rest` names, as functions."""
        ours = levels(adapt(student, adapter))
        if not len(ours) == len(teacher) == len(rest) == len(self.rest):
            raise ValueError(
                f"CrossKD compares {len(self.rest)} layers and runs the rest of the teacher after each, got {len(ours)} "
                f"of the student, {len(teacher)} of the teacher and {len(rest)} functions as rest"
            )
        pairs = [cross_predictions(s, t, go_on) for s, t, go_on in zip(ours, teacher, rest, strict=True)]
        scores, boxes = pairs[: self.levels], pairs[self.levels :]
        for number, (score, box) in enumerate(zip(scores, boxes, strict=False)):
            if score[0].shape[2] != box[0].shape[2]:
                raise ValueError(
                    f"level {number} has {score[0].shape[2]} positions with scores and {box[0].shape[2]} with boxes: "
                    "name the levels in the same order in both"
                )
        cross, target = ({"scores": torch.cat([pair[side] for pair in scores], 2)} for side in (0, 1))
        parts = [self.cls * dense_class_loss(cross, target)] if self.cls else []
        if self.ld:
            for side, raw in enumerate((cross, target)):
                raw |= _on_a_grid(torch.cat([pair[side] for pair in boxes], 2))
            parts.append(self.ld * localization_loss(cross, target, self.temperature))
        return torch.stack(parts).sum()


def _names(layers: str | list[str] | None) -> list[str]:
    return [layers] if isinstance(layers, str) else list(layers or [])


def _following(layer: str) -> str:
    """Returns the address of what follows a layer in its `nn.Sequential`."""
    owner, _, position = layer.rpartition(".")
    if not position.isdecimal():
        raise ValueError(
            f"teacher layer {layer!r} does not end in its place in an nn.Sequential, as 'head.1' does: name in rest "
            "what the teacher goes on with, such as 'head.predict'"
        )
    return f"{owner}[{int(position) + 1}:]"


def _on_a_grid(boxes: Tensor) -> dict[str, Tensor]:
    """Returns raw outputs with these boxes.

    Distributions are compared bin by bin, wherever the anchors lie.
    """
    anchors = boxes.new_zeros(boxes.shape[2], 2)
    return {"boxes": boxes, "anchors": anchors, "strides": anchors[:, 0]}
