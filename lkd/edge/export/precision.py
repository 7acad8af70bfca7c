"""Precision of a student's weights, which is that of its file."""

import torch
from torch import nn


def check_precision(module: nn.Module, given: torch.dtype | None = None) -> None:
    """Refuses a student whose weights are not float32, since its file is.

    Args:
        module: The student.
        given: Type of what it gives, where weights of other types may be in it that do not take part.

    Raises:
        ValueError: If some weights are of another precision; the message names one.
    """
    for name, weight in module.named_parameters():
        other = weight.is_floating_point() and weight.dtype != torch.float32
        if other and given in (None, weight.dtype):
            raise ValueError(
                f"the weights of {type(module).__name__} are {str(weight.dtype).removeprefix('torch.')} (such as {name}), and a file is "
                "in float32: make the module in float32, by module.float() or without .double() or .half() in its __init__ (the checkpoint's "
                "weights are converted as they are loaded), and give it test data in float32."
            )
