"""Linear maps that bring a student's channels to the teacher's width."""

import torch
from torch import Tensor, nn

from lkd.losses.inputs import Tapped, levels
from lkd.losses.layers import conv2d, linear


def channels(features: Tensor) -> int:
    """Returns the number of channels: dimension 1 of `(B, C)` and `(B, C, H, W)`, the last of `(B, N, C)`.

    Args:
        features: Vectors, maps or tokens.

    Raises:
        ValueError: If the tensor has another number of dimensions.

    Example:
        >>> channels(torch.zeros(2, 8, 4, 4)), channels(torch.zeros(2, 16, 8))
        (8, 8)
    """
    if features.dim() not in (2, 3, 4):
        raise ValueError(
            f"features must be (B, C), tokens (B, N, C) or maps (B, C, H, W), got {tuple(features.shape)}"
        )
    return features.shape[-1] if features.dim() == 3 else features.shape[1]


def match_channels(
    student: Tapped, teacher: Tapped, bias: bool = True, seed: int = 0
) -> nn.ModuleList | None:
    """Builds the maps that a feature loss needs where the widths of student and teacher differ.

    The initial weights come from `seed` alone: the global random state is neither read nor changed, so that
    adding a term leaves the rest of a run as it was.

    Args:
        student: Example features, one tensor or one for each layer.
        teacher: The teacher's example features, as many layers.
        bias: Whether the maps have a bias.
        seed: Seed of the initial weights.

    Returns:
        One module for each layer, in float32 on the student's device (a 1x1 convolution for maps, a linear
        layer for vectors and tokens, the identity where the widths agree), or None where all widths agree.

    Raises:
        ValueError: If the layers do not pair up.

    Example:
        >>> match_channels(torch.zeros(2, 4, 8, 8), torch.zeros(2, 6, 8, 8))
        ModuleList(
          (0): Conv2d(4, 6, kernel_size=(1, 1), stride=(1, 1))
        )
        >>> match_channels(torch.zeros(2, 4), torch.zeros(2, 4)) is None
        True
    """
    ours, theirs = levels(student), levels(teacher)
    if len(ours) != len(theirs):
        raise ValueError(f"the student has {len(ours)} layers to adapt, the teacher {len(theirs)}")
    generator = torch.Generator().manual_seed(seed)
    modules = [_projection(s, t, bias, generator) for s, t in zip(ours, theirs, strict=True)]
    return None if all(isinstance(module, nn.Identity) for module in modules) else nn.ModuleList(modules)


def adapt(student: Tapped, adapter: nn.Module | None) -> Tapped:
    """Applies what `match_channels` built, layer by layer.

    Args:
        student: The student's features, one tensor or one for each layer.
        adapter: The module list, a single module for a single layer, or None for no change.

    Returns:
        The adapted features.

    Raises:
        ValueError: If the adapter was made for another number of layers.

    Example:
        >>> features = torch.zeros(2, 4)
        >>> adapt(features, match_channels(features, torch.zeros(2, 6)))[0].shape
        torch.Size([2, 6])
    """
    if adapter is None:
        return student
    modules = list(adapter) if isinstance(adapter, nn.ModuleList) else [adapter]
    ours = levels(student)
    if len(modules) != len(ours):
        raise ValueError(f"the adapter was made for {len(modules)} layers, the student gave {len(ours)}")
    return [_apply(module, features) for module, features in zip(modules, ours, strict=True)]


def _apply(module: nn.Module, features: Tensor) -> Tensor:
    weight = next(module.parameters(), None)  # half-precision features meet float32 weights outside autocast
    return module(features if weight is None else features.to(weight.dtype))


def _projection(student: Tensor, teacher: Tensor, bias: bool, generator: torch.Generator) -> nn.Module:
    if student.dim() != teacher.dim():
        raise ValueError(
            f"student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)} are of "
            "different kinds: pair maps with maps, tokens with tokens, vectors with vectors"
        )
    width = (channels(student), channels(teacher))
    if width[0] == width[1]:
        return nn.Identity()
    layer = (
        conv2d(*width, generator, bias=bias) if student.dim() == 4 else linear(*width, generator, bias=bias)
    )
    return layer.to(student.device)
