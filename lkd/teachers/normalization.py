"""A teacher's own normalization, which replaces that of the student's batch."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from lkd.nested import on_tensors, tensors
from lkd.taps import Call
from lkd.teachers.inputs import shown

Statistics = float | Sequence[float]


class Normalization(nn.Module):
    """Change from the student's normalization to the teacher's.

    It computes `((x * student_std + student_mean) - mean) / std`.

    Args:
        mean: Mean that the teacher subtracts, one number per channel or one for all.
        std: Standard deviation that the teacher divides by.
        student_mean: Mean that was subtracted from the batch, for the student.
        student_std: Standard deviation that the batch was divided by.

    Raises:
        ValueError: If a mean comes without its standard deviation, lengths differ, or a number is out of
            range.

    Example:
        >>> raw = Normalization(None, None, student_mean=0.5, student_std=0.5)  # back to what lies in [0, 1]
        >>> raw(Call((torch.tensor([[-1.0, 1.0]]),), {})).args[0]
        tensor([[0., 1.]])
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        mean: Statistics | None,
        std: Statistics | None,
        student_mean: Statistics | None = None,
        student_std: Statistics | None = None,
    ) -> None:
        super().__init__()
        own_mean, own_std = _pair("", mean, std)
        his_mean, his_std = _pair("student_", student_mean, student_std)
        counts = {len(own_mean), len(his_mean)} - {1}
        if len(counts) > 1:
            raise ValueError(
                f"mean={mean} is of {len(own_mean)} channels and student_mean={student_mean} of {len(his_mean)}; the teacher's and "
                "the student's statistics need one number a channel of the same batch."
            )
        self.channels = counts.pop() if counts else None
        self.register_buffer("scale", his_std / own_std, persistent=False)
        self.register_buffer("shift", (his_mean - own_mean) / own_std, persistent=False)

    def forward(self, call: Call) -> Call:
        """Normalizes the images of a call: its only float tensor, or its only one `(B, C, H, W)`.

        Raises:
            ValueError: If there is no such tensor or several, or its number of channels differs.
        """
        floats = [t for t in tensors(call) if t.is_floating_point() and t.ndim > 1]
        images = floats if len(floats) == 1 else [t for t in floats if t.ndim == 4]
        if len(images) != 1:
            raise ValueError(
                f"mean, std: the teacher is given {shown(call)}, in which {len(images)} tensors are floating-point images "
                "(B, C, H, W), so it is not clear what to normalize; do it in the teacher's own forward."
            )
        image = images[0]
        if self.channels not in (None, image.shape[1]):
            raise ValueError(
                f"mean, std: statistics of {self.channels} channels, but the teacher is given {tuple(image.shape)}, with "
                f"{image.shape[1]} in dimension 1; give one number a channel (B, C, ...)."
            )
        shape = (1, -1, *[1] * (image.ndim - 2))
        kept = torch.promote_types(image.dtype, torch.float32)
        scale, shift = (b.to(image.device, kept).view(shape) for b in (self.scale, self.shift))
        normalized: Call = on_tensors(lambda t: t.to(kept) * scale + shift if t is image else t, call)
        return normalized


def _pair(whose: str, mean: Statistics | None, std: Statistics | None) -> tuple[Tensor, Tensor]:
    if (mean is None) != (std is None):
        given, missing = (f"{whose}mean", f"{whose}std") if std is None else (f"{whose}std", f"{whose}mean")
        raise ValueError(f"{given} is given without {missing}; give both.")
    means, stds = (_numbers(*each) for each in ((f"{whose}mean", mean, 0.0), (f"{whose}std", std, 1.0)))
    if len(means) != len(stds) and 1 not in (len(means), len(stds)):
        raise ValueError(
            f"{whose}mean={mean} has {len(means)} channels and {whose}std={std} {len(stds)}; give one number a channel."
        )
    if not all(value > 0 for value in stds):
        raise ValueError(f"{whose}std={std} must be above 0.")
    shape = max(len(means), len(stds))
    mean_each, std_each = (torch.tensor(v, dtype=torch.float64).expand(shape) for v in (means, stds))
    return mean_each, std_each


def _numbers(name: str, value: Statistics | None, default: float) -> list[float]:
    if value is None:
        return [default]
    try:
        numbers = [float(v) for v in value] if isinstance(value, (Sequence, Tensor)) else [float(value)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={value!r} must be a number, or a list with one a channel.") from error
    if isinstance(value, str) or not numbers or not all(isfinite(n) for n in numbers):
        raise ValueError(f"{name}={value!r} must be a finite number, or a list with one a channel.")
    return numbers
