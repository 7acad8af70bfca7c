"""Distillation by knowledge review: deep layers of the student help shallow ones to match the teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.losses.adapters import channels
from lkd.losses.inputs import level_pairs, mean_over_levels, prepare
from lkd.losses.layers import conv2d
from lkd.losses.maps import as_maps, require_maps, same_width
from lkd.losses.term import Term

Size = torch.Size


def hcl_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the hierarchical context loss: mean squared differences of a pyramid of averages.

    The maps themselves count with weight 1; averaged to 4x4, 2x2 and 1x1 positions they count with 1/2, 1/4
    and 1/8. Levels that are not smaller than the maps are left out and take no weight, so the first smaller
    one has 1/2. The sum is divided by the sum of these weights.

    Chen et al.: Distilling Knowledge via Knowledge Review, CVPR 2021, arXiv:2104.09044, Section 3.3; weights
    and normalization are those of the authors' code.

    Args:
        student: Maps `(B, C, H, W)`.
        teacher: Maps of the same shape; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        ValueError: If the features are no maps or their shapes differ.

    Example:
        >>> student = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).reshape(1, 1, 2, 2)
        >>> hcl_loss(student, torch.zeros(1, 1, 2, 2))  # (1 * 1 + .5 * 0) / 1.5
        tensor(0.6667)
    """
    student, teacher = same_width(*require_maps(*prepare(student, teacher)))
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side >= min(student.shape[2:]):
            continue
        weight /= 2
        weights += weight
        total = total + weight * F.mse_loss(
            F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side)
        )
    return total / weights


class Fusion(nn.Module):
    """Attention-based fusion of a layer with the result of the deeper ones (ABF), in the teacher's shape.

    The layer goes through a 1x1 convolution; with the deeper result, enlarged to its size, it makes two
    attention maps (1x1 convolution, sigmoid) that weigh the two in a sum; a 3x3 convolution gives the output.
    Both convolutions are followed by batch normalization.

    Args:
        in_channels: Channels of the student's layer.
        mid_channels: Channels of the result that the next shallower layer gets.
        out_channels: Channels of the teacher's layer.
        fuse: Whether there is a deeper layer.
        generator: Random generator of the initial weights.
    """

    def __init__(
        self, in_channels: int, mid_channels: int, out_channels: int, fuse: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            conv2d(in_channels, mid_channels, generator, bias=False, slope=1.0), nn.BatchNorm2d(mid_channels)
        )
        self.outer = nn.Sequential(
            conv2d(mid_channels, out_channels, generator, kernel_size=3, bias=False, slope=1.0),
            nn.BatchNorm2d(out_channels),
        )
        self.attention = conv2d(2 * mid_channels, 2, generator) if fuse else None

    def forward(self, features: Tensor, deeper: Tensor | None, size: Size) -> tuple[Tensor, Tensor]:
        """Fuses maps `(B, C, H, W)` with the deeper result; both outputs have the teacher's `size`."""
        features = self.inner(features.to(next(self.parameters()).dtype))
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, features.shape[2:], mode="nearest")
            weights = self.attention(torch.cat([features, deeper], 1)).sigmoid()
            features = features * weights[:, :1] + deeper * weights[:, 1:]
        if features.shape[2:] != size:
            features = F.interpolate(features, size, mode="nearest")
        return self.outer(features), features


class Review(nn.Module):
    """One `Fusion` for each layer, applied from the deepest to the shallowest.

    Args:
        student: Channels of the student's layers, shallow to deep.
        teacher: Channels of the teacher's layers.
        generator: Random generator of the initial weights.

    Example:
        >>> review = Review([4, 8], [6, 6], torch.Generator().manual_seed(0))
        >>> maps = [torch.zeros(2, 4, 8, 8), torch.zeros(2, 8, 4, 4)]
        >>> [out.shape for out in review(maps, [torch.Size([8, 8]), torch.Size([2, 2])])]
        [torch.Size([2, 6, 8, 8]), torch.Size([2, 6, 2, 2])]
    """

    def __init__(self, student: list[int], teacher: list[int], generator: torch.Generator) -> None:
        super().__init__()
        middle, last = min(512, student[-1]), len(student) - 1
        self.fusions = nn.ModuleList(
            Fusion(ours, middle, theirs, fuse=level < last, generator=generator)
            for level, (ours, theirs) in enumerate(zip(student, teacher, strict=True))
        )

    def forward(self, maps: list[Tensor], sizes: list[Size]) -> list[Tensor]:
        """Returns the student's layers in the teacher's shapes, with heights and widths `sizes`."""
        outputs: list[Tensor] = []
        deeper = None
        for fusion, features, size in zip(
            reversed(self.fusions), reversed(maps), reversed(sizes), strict=True
        ):
            output, deeper = fusion(features, deeper, size)
            outputs.insert(0, output)
        return outputs


class ReviewKD(Term):
    """Knowledge review: the student's layers, fused from the deepest to the shallowest, match the teacher's.

    `hcl_loss` between what `Review` makes of the student's layers and the teacher's; layers are averaged. The
    authors sum over the layers, use four (three stages before their last ReLU, and the pooled embedding),
    weight the sum by 5 for resnet32x4 -> resnet8x4, and raise that weight linearly from 0 over the first 20
    epochs.

    Args:
        weight: Factor of the loss. A weight of 5 on a sum over four layers is 20 here.
        student_layer: Layers of the student, from the shallowest to the deepest: maps, or vectors `(B, C)`.
        teacher_layer: Their counterparts in the teacher, of any size and width.
        seed: Seed of the initial weights of the fusions.

    Example:
        >>> student = [torch.ones(2, 4, 8, 8), torch.ones(2, 8, 4, 4), torch.ones(2, 8)]
        >>> teacher = [torch.ones(2, 16, 8, 8), torch.ones(2, 32, 4, 4), torch.ones(2, 32)]
        >>> term = ReviewKD()
        >>> term(student, teacher, adapter=term.adapter(student, teacher)).item()  # constant maps come out as 0
        1.0...
    """

    def __init__(
        self,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        self.seed = seed

    def adapter(self, student: list[Tensor], teacher: list[Tensor]) -> Review:
        """Builds a fusion for each layer."""
        pairs = [require_maps(as_maps(s), as_maps(t)) for s, t in level_pairs(student, teacher)]
        generator = torch.Generator().manual_seed(self.seed)
        review = Review([channels(s) for s, _ in pairs], [channels(t) for _, t in pairs], generator)
        return review.to(pairs[0][0].device)

    def forward(
        self,
        student: list[Tensor],
        teacher: list[Tensor],
        labels: Tensor | None = None,
        adapter: nn.Module | None = None,
    ) -> Tensor:
        """Computes the mean of `hcl_loss` over the layers."""
        if adapter is None:
            raise ValueError("ReviewKD learns fusions: pass what the term's adapter() returned")
        pairs = [require_maps(as_maps(s), as_maps(t)) for s, t in level_pairs(student, teacher)]
        fused = adapter([s for s, _ in pairs], [t.shape[2:] for _, t in pairs])
        return mean_over_levels(hcl_loss, fused, [t for _, t in pairs])
