"""What the student and the teacher see of a frame: one view at two sizes, a function of (seed, key)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lkd.checks import expect


class FrameView(NamedTuple):
    """View of a frame, unpadded, for the student and the teacher."""

    image: Tensor  # (3, h, w) float32 in [0, 1], the student's
    teacher_image: Tensor | None  # (3, H, W), the same view at the teacher's size, maybe of another picture
    boxes: Tensor  # (N, 4) xyxy in pixels of `image`
    labels: Tensor  # (N,)
    window: Tensor  # (5,): the crop x0, y0, x1, y1 as shares of the frame, and 1 if it was flipped


def fit_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Returns height and width after scaling the longer side to `long_side`, aspect kept.

    Example:
        >>> fit_size(750, 1000, 640)
        (480, 640)
    """
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


class Views:
    """Maker of views of a frame: random crop (zoom), horizontal flip and colors, then a resize.

    Nothing is drawn from the global random state: the same seed, key and frame give the same view, bit for
    bit, in whichever worker, order or run.

    Args:
        image_size: longer side of the student's image in pixels.
        teacher_size: longer side of the teacher's image in pixels, cut from the same view of the original
            frame (never from the student's smaller image); `None` for no teacher's image.
        crop: range of the crop's side as a share of the frame's (aspect kept): (0.5, 1.0) zooms in up to 2
            times, (1.0, 1.0) is off.
        flip: probability of a horizontal flip.
        color: strength c of the color jitter: brightness, contrast and saturation factors in [1 - c, 1 + c].
        min_visible: boxes with a smaller share of their area than this inside the crop are dropped; the
            others are clipped.
        seed: seed of the views, not negative.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> views = Views(image_size=32, teacher_size=64, crop=(0.5, 1.0), flip=0.5, color=0.2)
        >>> frame = torch.zeros(3, 60, 80, dtype=torch.uint8)
        >>> view = views(frame, torch.tensor([[0.25, 0.25, 0.75, 0.75]]), torch.tensor([0]), key=(3, 0, 17))
        >>> view.image.shape, view.teacher_image.shape
        (torch.Size([3, 24, 32]), torch.Size([3, 48, 64]))
    """

    def __init__(
        self,
        image_size: int,
        teacher_size: int | None = None,
        crop: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.0,
        color: float = 0.0,
        min_visible: float = 0.3,
        seed: int = 0,
    ) -> None:
        expect(image_size=image_size, ge=1, why="it is in pixels")
        expect(teacher_size=teacher_size, ge=1, none="no picture of the teacher's own", why="it is in pixels")
        if len(crop) != 2 or not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(
                f"crop={tuple(crop)} must be a range (low, high) of the side with 0 < low <= high <= 1."
            )
        expect(flip=flip, color=color, min_visible=min_visible, ge=0, le=1)
        expect(seed=seed, ge=0)
        self.image_size, self.teacher_size = image_size, teacher_size
        self.crop, self.flip, self.color = crop, flip, color
        self.min_visible, self.seed = min_visible, seed

    def __call__(
        self,
        image: Tensor,
        boxes: Tensor,
        labels: Tensor,
        key: Sequence[int] = (),
        theirs: Tensor | None = None,
    ) -> FrameView:
        """Draws the view that belongs to `key`.

        Args:
            image: (3, H, W) uint8.
            boxes: (N, 4) float32 xyxy, normalized to [0, 1].
            labels: (N,).
            key: numbers, none negative, that name this view, such as (epoch, lap, index).
            theirs: (3, H', W') uint8, what the teacher sees of the same scene: another sensor's picture, of
                the same aspect; `None` for `image`.
        """
        height, width = image.shape[-2:]
        # All numbers are always drawn, so that switching one augmentation off leaves the others as they were.
        scale, down, right, mirror, *jitter = np.random.default_rng([self.seed, *key]).random(7).tolist()
        scale = self.crop[0] + (self.crop[1] - self.crop[0]) * scale
        h, w = max(1, round(scale * height)), max(1, round(scale * width))
        top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
        pixels = boxes.numpy().astype(np.float32) * np.array([width, height, width, height], np.float32)
        moved = pixels
        if (h, w) != (height, width):
            theirs = None if theirs is None else _same_crop(theirs, (height, width), top, left, h, w)
            image = image[:, top : top + h, left : left + w]
            moved = (pixels - np.array([left, top, left, top], np.float32)).clip(
                0, np.array([w, h, w, h], np.float32)
            )
            keep = (_area(moved) >= self.min_visible * _area(pixels)) & (_area(moved) > 0)
            moved, labels = moved[keep], labels[torch.from_numpy(keep)]
        flipped = mirror < self.flip
        corners = (left / width, top / height, (left + w) / width, (top + h) / height)
        window = torch.tensor([*corners, float(flipped)])
        if flipped:
            theirs = None if theirs is None else theirs.flip(-1)
            image = image.flip(-1)
            moved = np.stack([-(moved[:, 2] - w), moved[:, 1], -(moved[:, 0] - w), moved[:, 3]], -1)
        # The size follows from the frame, not from the rounded crop: all views of a camera stack into one
        # batch.
        small = fit_size(height, width, self.image_size)
        factors = [1 + self.color * (2 * number - 1) for number in jitter]
        teacher = None
        if self.teacher_size is not None:
            seen = image if theirs is None else theirs
            teacher = self._finish(seen, fit_size(height, width, self.teacher_size), factors)
        if small != (h, w):
            moved = moved * np.array([small[1] / w, small[0] / h] * 2, np.float32)
        return FrameView(
            self._finish(image, small, factors), teacher, torch.from_numpy(moved), labels, window
        )

    def _finish(self, image: Tensor, size: tuple[int, int], factors: list[float]) -> Tensor:
        """Resizes to `size` (h, w) and changes the colors.

        The colors are those of `adjust_brightness` and `adjust_saturation` of torchvision's v2, to the bit, written
        into one tensor: most of their time goes into new memory.
        """
        image = F.resize(image, list(size), antialias=True)
        image = image.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 255)
        if self.color == 0:
            return image
        brightness, contrast, saturation = factors
        image.mul_(brightness).clamp_(0, 1)
        red, green, blue = image
        gray = red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)
        image.mul_(saturation).add_(gray, alpha=1 - saturation).clamp_(0, 1)
        # Contrast about mid-gray, not about the picture's mean as in v2: a mean depends on the size (two
        # views) and, in its last bit, on the number of threads (workers).
        return image.sub_(0.5).mul_(contrast).add_(0.5).clamp_(0, 1)


def _same_crop(picture: Tensor, size: tuple[int, int], top: int, left: int, h: int, w: int) -> Tensor:
    """Returns what a crop of another picture, of `size` (height, width), shows of this one.

    It is exact if the sizes agree.
    """
    height, width = picture.shape[-2:]
    down, right = height / size[0], width / size[1]
    y0, x0 = min(round(top * down), height - 1), min(round(left * right), width - 1)
    y1, x1 = round((top + h) * down), round((left + w) * right)
    return F.crop(picture, y0, x0, max(1, y1 - y0), max(1, x1 - x0))


def _area(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the areas (N,) of xyxy boxes (N, 4)."""
    areas: npt.NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
