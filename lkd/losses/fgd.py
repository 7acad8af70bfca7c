"""Focal and global distillation of a detector's feature maps, where its boxes are and where they are not."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.adapters import channels
from lkd.losses.box_masks import box_masks
from lkd.losses.focal import focal_loss
from lkd.losses.global_context import GlobalContext
from lkd.losses.inputs import Tapped, full_precision, level_pairs, levels
from lkd.losses.layers import conv2d
from lkd.losses.maps import mean_over_adapted, require_maps, same_size
from lkd.losses.term import Term


class GlobalRelation(nn.Module):
    """The learned parts of FGD for a layer: a 1x1 convolution if widths differ, a `GlobalContext` for both.

    Args:
        student: Channels of the student.
        teacher: Channels of the teacher.
        generator: Random generator of the initial weights.
    """

    def __init__(self, student: int, teacher: int, generator: torch.Generator) -> None:
        super().__init__()
        self.align = nn.Identity() if student == teacher else conv2d(student, teacher, generator)
        self.student = GlobalContext(teacher, generator)
        self.teacher = GlobalContext(teacher, generator)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the student's aligned maps, and the maps of both with their contexts.

        The teacher's are constants.
        """
        dtype = next(self.parameters()).dtype
        aligned = self.align(student.to(dtype))
        return aligned, self.student(aligned), self.teacher(teacher.detach().to(dtype))


class FGD(Term):
    """Focal and global distillation of a detector's maps, such as the levels of its neck.

    Layers are averaged.

    `focal_loss`, plus `lambda_ ‖R_S(s) - R_T(t)‖²` (summed over channels and positions, mean over the batch)
    between the maps with their learned global contexts R. `labels` are the batch's targets: for each image a
    dict with `boxes (N, 4)`, corners in pixels of the image that the student saw. With `lkd.modules.Detector`
    this is `label_key="targets"`. Unlabeled data cannot be used.

    Yang et al.: Focal and Global Knowledge Distillation for Detectors, CVPR 2022, arXiv:2111.11837. The
    authors sum over the levels: multiply the weight by their number to match.

    Args:
        strides: Pixels per cell of the student's layers, in their order. Default: a YOLO neck's.
        temperature: T of the attention, above 0.
        alpha: Weight of the foreground. Defaults are the authors' for one-stage detectors.
        beta: Weight of the background.
        gamma: Weight of the attention.
        lambda_: Weight of the global part.
        weight: Factor of the sum.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher. Sizes meet as in `fitnets_loss`.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If strides or temperature are not above 0.

    Example:
        >>> term = FGD(strides=[8])
        >>> maps, targets = torch.ones(1, 4, 4, 4), [{"boxes": torch.tensor([[0.0, 0.0, 20.0, 10.0]])}]
        >>> term(maps, maps, targets, term.adapter(maps, maps)).item()
        0.0
    """

    needs_labels = True

    def __init__(
        self,
        strides: Sequence[float] = (8, 16, 32),
        temperature: float = 0.5,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 1e-3,
        lambda_: float = 5e-6,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        for stride in strides:
            expect(strides=stride, gt=0)
        expect(temperature=temperature, gt=0)
        self.strides, self.temperature = list(strides), temperature
        self.alpha, self.beta, self.gamma, self.lambda_ = alpha, beta, gamma, lambda_
        self.seed = seed

    def adapter(self, student: Tapped, teacher: Tapped) -> nn.ModuleList:
        """Builds alignment and contexts for each layer."""
        generator = torch.Generator().manual_seed(self.seed)
        pairs = [require_maps(s, t) for s, t in level_pairs(student, teacher)]
        return nn.ModuleList(
            GlobalRelation(channels(s), channels(t), generator).to(s.device) for s, t in pairs
        )

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Any = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the weighted sum of the parts, mean over the layers."""
        ours = levels(student)
        boxes = _boxes(labels, len(ours[0]))
        if len(self.strides) != len(ours):
            raise ValueError(f"strides={self.strides} must have one entry for each of {len(ours)} layers")
        strides = iter(self.strides)

        def loss(s: Tensor, t: Tensor, relation: GlobalRelation) -> Tensor:
            stride = next(strides)
            cells = s.shape[2:]
            s, t = same_size(*require_maps(s, t))
            height, width = (
                stride * before / after for before, after in zip(cells, s.shape[2:], strict=True)
            )
            masks = box_masks(boxes, (s.shape[2], s.shape[3]), (height, width))
            aligned, s_context, t_context = relation(s, t)
            focal = focal_loss(aligned, t, masks, self.temperature, self.alpha, self.beta, self.gamma)
            difference = full_precision(s_context) - full_precision(t_context)
            relations = difference.square().flatten(1).sum(1).mean()
            return focal + self.lambda_ * relations

        return mean_over_adapted(loss, student, teacher, adapter)


def _boxes(labels: Any, batch: int) -> list[Tensor]:
    if not (
        isinstance(labels, Sequence)
        and len(labels) == batch
        and all(isinstance(target, Mapping) and "boxes" in target for target in labels)
    ):
        raise ValueError(
            f"FGD needs the boxes of all {batch} images as labels, a list of dicts with `boxes`, got "
            f"{type(labels).__name__}: set label_key, 'targets' with lkd's detectors"
        )
    return [target["boxes"].float() for target in labels]
