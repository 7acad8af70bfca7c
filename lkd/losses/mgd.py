"""Masked generative distillation: the teacher's features are generated from a part of the student's."""

from typing import Literal

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.adapters import channels
from lkd.losses.draws import Draws
from lkd.losses.inputs import Tapped, level_pairs, mean_over_levels, prepare
from lkd.losses.layers import conv2d
from lkd.losses.maps import require_maps, same_size, same_width
from lkd.losses.term import Term

Masked = Literal["positions", "channels"]


def mgd_loss(generated: Tensor, teacher: Tensor) -> Tensor:
    """Computes the squared difference, summed over channels and positions, mean over the batch.

    Yang et al.: Masked Generative Distillation, ECCV 2022, arXiv:2205.01529, Section 3.

    Args:
        generated: Maps `(B, C, H, W)` made from the masked features of the student.
        teacher: Maps of the same shape; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps or their shapes differ.

    Example:
        >>> mgd_loss(torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2))
        tensor(12.)
    """
    generated, teacher = same_width(*require_maps(*prepare(generated, teacher)))
    return (generated - teacher).square().flatten(1).sum(1).mean()


def mask_features(
    features: Tensor, ratio: float, generator: torch.Generator, masked: Masked = "positions"
) -> Tensor:
    """Sets a random part of maps to 0: each position of all channels together, or each channel, by itself.

    Args:
        features: Maps `(B, C, H, W)`.
        ratio: Chance in [0, 1] of being masked, lambda in the paper.
        generator: Random generator of the mask, on the device of the features.
        masked: Whether positions (dense tasks) or channels (classification) are masked.

    Returns:
        The maps with zeros; nothing is scaled up in exchange.

    Example:
        >>> mask_features(torch.ones(1, 2, 1, 4), 0.5, torch.Generator().manual_seed(0))
        tensor([[[[0., 1., 0., 0.]],
                 [[0., 1., 0., 0.]]]])
    """
    batch, width, height, length = features.shape
    shape = (batch, 1, height, length) if masked == "positions" else (batch, width, 1, 1)
    kept = torch.rand(shape, generator=generator, device=features.device) >= ratio
    return features * kept


class MaskedGeneration(nn.Module):
    """Layers that generate the teacher's features from the masked ones of the student.

    For each layer a 1x1 convolution where the widths differ, then two 3x3 convolutions with ReLU between
    them. Which positions are masked depends on the seed and on how many steps there were.

    Args:
        widths: Channels of student and teacher for each layer.
        ratio: Chance of being masked.
        masked: Whether `"positions"` or `"channels"` are masked.
        seed: Seed of the initial weights and of the masks.
    """

    def __init__(self, widths: list[tuple[int, int]], ratio: float, masked: Masked, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.align = nn.ModuleList(
            nn.Identity() if ours == theirs else conv2d(ours, theirs, generator) for ours, theirs in widths
        )
        self.generate = nn.ModuleList(
            nn.Sequential(
                conv2d(theirs, theirs, generator, kernel_size=3),
                nn.ReLU(),
                conv2d(theirs, theirs, generator, kernel_size=3),
            )
            for _, theirs in widths
        )
        self.draws = Draws(seed)
        self.ratio, self.masked = ratio, masked

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Returns one map of the teacher's width for each of the student's."""
        if len(maps) != len(self.align):
            raise ValueError(
                f"the adapter was made for {len(self.align)} layers, the student gave {len(maps)}"
            )
        generator = self.draws.generator(maps[0].device)
        dtype = next(self.generate.parameters()).dtype
        generated = []
        for align, generate, features in zip(self.align, self.generate, maps, strict=True):
            features = align(features.to(dtype))
            generated.append(generate(mask_features(features, self.ratio, generator, self.masked)))
        return generated


class MGD(Term):
    """Masked generative distillation, `mgd_loss` of what `MaskedGeneration` makes; layers are averaged.

    **The loss is a sum over channels and positions, so its weight is small.** The authors have 2e-5 on each
    level of a detector, which they sum (multiply it by the number of levels here), with a ratio of 0.65
    (RetinaNet). For classification they have 7e-5 with a ratio of 0.15 of the channels of the last layer.

    Args:
        ratio: Chance in [0, 1) that a position, or channel, is masked.
        masked: `"positions"` for detectors and segmentation, `"channels"` for classifiers.
        weight: Factor of the loss; see above.
        student_layer: Layer, or layers, of the student.
        teacher_layer: Their counterparts in the teacher. Sizes meet as in `fitnets_loss`.
        seed: Seed of the initial weights and of the masks.

    Raises:
        ValueError: If the ratio is not in [0, 1), or masked has another value.

    Example:
        >>> term = MGD(ratio=0.65, weight=2e-5)
        >>> neck = [torch.zeros(2, 4, 8, 8), torch.zeros(2, 8, 4, 4)]
        >>> term(neck, neck, adapter=term.adapter(neck, neck)).item()
        0.0
    """

    def __init__(
        self,
        ratio: float = 0.65,
        masked: Masked = "positions",
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(ratio=ratio, ge=0, lt=1, why="at 1 nothing of the student is left")
        expect(masked=masked, among=("positions", "channels"))
        self.ratio = ratio
        self.masked: Masked = masked
        self.seed = seed

    def adapter(self, student: Tapped, teacher: Tapped) -> MaskedGeneration:
        """Builds the blocks that generate the teacher's features."""
        pairs = [require_maps(s, t) for s, t in level_pairs(student, teacher)]
        widths = [(channels(s), channels(t)) for s, t in pairs]
        return MaskedGeneration(widths, self.ratio, self.masked, self.seed).to(pairs[0][0].device)

    def forward(
        self, student: Tapped, teacher: Tapped, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the mean of `mgd_loss` over the layers."""
        if adapter is None:
            raise ValueError("MGD learns to generate features: pass what the term's adapter() returned")
        pairs = [same_size(*require_maps(s, t)) for s, t in level_pairs(student, teacher)]
        return mean_over_levels(mgd_loss, adapter([s for s, _ in pairs]), [t for _, t in pairs])
