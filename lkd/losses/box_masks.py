"""The cells of a feature map that belong to boxes, and the weight of each."""

from collections.abc import Sequence

import torch
from torch import Tensor


def box_masks(
    boxes: Sequence[Tensor], size: tuple[int, int], stride: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Computes the weights of foreground and background cells of a feature map.

    A cell that a box touches weighs 1 over the number of cells that the box touches, so that boxes count
    alike. Where several boxes touch a cell, the smallest box decides. A background cell weighs 1 over their
    number.

    Yang et al., CVPR 2022, arXiv:2111.11837, Section 3.1 (binary mask M and scale mask S). The authors' code
    gives boxes another row and column, and takes x for rows; this does neither.

    Args:
        boxes: Corners x1, y1, x2, y2 in pixels of each image, `(N, 4)`; N may be 0.
        size: Height and width of the map, in cells.
        stride: Height and width of a cell, in pixels.

    Returns:
        The weights of foreground and of background, each `(B, H, W)`.

    Example:
        >>> foreground, background = box_masks([torch.tensor([[0.0, 0.0, 16.0, 8.0]])], (2, 2), (8.0, 8.0))
        >>> foreground, background
        (tensor([[[0.5000, 0.5000],
                 [0.0000, 0.0000]]]), tensor([[[0.0000, 0.0000],
                 [0.5000, 0.5000]]]))
    """
    foregrounds = [_foreground(corners, size, stride) for corners in boxes]
    foreground = torch.stack(foregrounds)
    background = (foreground == 0).float()
    return foreground, background / background.sum((1, 2), keepdim=True).clamp_min(1)


def _foreground(corners: Tensor, size: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """Weights `(H, W)` of the cells that boxes `(N, 4)` touch; 0 elsewhere."""
    if not len(corners):
        return corners.new_zeros(size)
    sides = []
    for axis, (cells, pixels) in enumerate(zip(reversed(size), reversed(stride), strict=True)):  # x, then y
        cell = torch.arange(cells, device=corners.device)
        first = (corners[:, axis, None] / pixels).floor()
        last = (
            (corners[:, axis + 2, None] / pixels).ceil().maximum(first + 1)
        )  # an empty box touches a cell too
        sides.append(((cell >= first) & (cell < last)).float())
    columns, rows = sides
    touched = rows[:, :, None] * columns[:, None, :]
    return (touched / touched.sum((1, 2), keepdim=True).clamp_min(1)).amax(0)
