"""`Int8`: whole numbers of 8 bits, with a scale for each row."""

import torch
from torch import Tensor

from lkd.federated.codecs.base import Codec, Form
from lkd.federated.protocol.tensors import Tensors


class Int8(Codec):
    """Sends whole numbers from -127 to 127 and a scale for each row: a quarter of the bytes of float32.

    A row is what belongs to one output (the first dimension); a vector is one row. The scale is the row's
    largest absolute value by 127, and numbers are rounded to the nearest.

    Args:
        error_feedback: See `Codec`.

    Example:
        >>> parts = Int8().encode(torch.tensor([[1.27, -0.5], [0.0, 0.0]]))
        >>> parts["values"].tolist(), Int8().decode(parts, torch.zeros(2, 2))
        ([[127, -50], [0, 0]], tensor([[ 1.2700, -0.5000],
                [ 0.0000,  0.0000]]))
    """

    def __init__(self, error_feedback: bool = True) -> None:
        super().__init__(error_feedback)

    def form(self, like: Tensor) -> Form:
        """Returns the forms of `values` and `scales`."""
        rows = like.shape[0] if like.ndim > 1 else 1
        return {"values": (tuple(like.shape), torch.int8), "scales": ((rows,), torch.float32)}

    def encode(self, tensor: Tensor, start: Tensor | None = None) -> Tensors:
        """Rounds each row by its scale."""
        rows = _rows(tensor.float())
        scales = rows.abs().amax(1) / 127 if rows.shape[1] else rows.new_zeros(len(rows))
        values = (rows / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round().clamp(-127, 127)
        return {"values": values.to(torch.int8).view(tensor.shape), "scales": scales}

    def decode(self, parts: Tensors, like: Tensor) -> Tensor:
        """Multiplies each row by its scale."""
        rows = _rows(parts["values"].float()) * parts["scales"][:, None]
        return rows.view(like.shape).to(like.dtype)


def _rows(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)
