"""`Half`: numbers of 16 bits."""

from typing import Literal

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.codecs.base import Codec, Form
from lkd.federated.protocol.tensors import Tensors


class Half(Codec):
    """Sends numbers of 16 bits: half of the bytes of float32.

    Args:
        dtype: `"bfloat16"` has the range of float32 and 8 bits of precision, `"float16"` has 11 bits, and
            numbers beyond 65504 are cut to that.
        error_feedback: See `Codec`.

    Example:
        >>> Half().encode(torch.tensor([1.0, 1.001]))
        {'half': tensor([1., 1.], dtype=torch.bfloat16)}
    """

    def __init__(
        self, dtype: Literal["bfloat16", "float16"] = "bfloat16", error_feedback: bool = False
    ) -> None:
        super().__init__(error_feedback)
        expect(dtype=dtype, among=("bfloat16", "float16"))
        self.dtype = dtype

    def form(self, like: Tensor) -> Form:
        """Returns the form of the one part, `half`."""
        return {"half": (tuple(like.shape), getattr(torch, self.dtype))}

    def encode(self, tensor: Tensor, start: Tensor | None = None) -> Tensors:
        """Rounds to 16 bits."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        most = torch.finfo(dtype).max
        return {"half": tensor.clamp(-most, most).to(dtype)}

    def decode(self, parts: Tensors, like: Tensor) -> Tensor:
        """Widens the numbers."""
        return parts["half"].to(like.dtype)
