"""`TopK`: the largest numbers of each tensor, and where they are."""

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.codecs.base import Codec, Form
from lkd.federated.protocol.tensors import Tensors


class TopK(Codec):
    """Sends the numbers of largest absolute value of each tensor, with their places.

    Aji and Heafield, "Sparse Communication for Distributed Gradient Descent", EMNLP 2017. A number with its
    place takes 8 bytes, so `share=0.01` is 2 % of the bytes of float32. With `error_feedback` what was left
    out is sent later (Stich, Cordonnier and Jaggi, NeurIPS 2018, arXiv:1809.07599, Algorithm 1).

    Args:
        share: Share of the numbers of a tensor that is sent, at least one.
        error_feedback: See `Codec`.

    Example:
        >>> codec, tensor = TopK(share=0.25), torch.tensor([0.1, -3.0, 0.2, 0.0])
        >>> codec.encode(tensor), codec.decode(codec.encode(tensor), tensor)
        ({'values': tensor([-3.]), 'places': tensor([1], dtype=torch.int32)}, tensor([ 0., -3.,  0.,  0.]))
    """

    def __init__(self, share: float = 0.01, error_feedback: bool = True) -> None:
        super().__init__(error_feedback)
        expect(share=share, gt=0, le=1)
        self.share = share

    def form(self, like: Tensor) -> Form:
        """Returns the forms of `values` and `places`."""
        count = self._count(like)
        return {"values": ((count,), like.dtype), "places": ((count,), torch.int32)}

    def encode(self, tensor: Tensor, start: Tensor | None = None) -> Tensors:
        """Picks the largest; of equal ones the first."""
        flat = tensor.flatten()
        order = flat.abs().argsort(descending=True, stable=True)
        places = order[: self._count(tensor)].sort().values
        return {"values": flat[places], "places": places.to(torch.int32)}

    def decode(self, parts: Tensors, like: Tensor) -> Tensor:
        """Puts the numbers in their places, and zeros elsewhere.

        Raises:
            ValueError: If there is no such place.
        """
        places = parts["places"].long()
        if places.numel() and (int(places.min()) < 0 or int(places.max()) >= like.numel()):
            raise ValueError(f"places are from 0 to {like.numel() - 1}, and not {int(places.max())}")
        flat = torch.zeros(like.numel(), dtype=like.dtype, device=like.device)
        flat[places] = parts["values"]
        return flat.view(like.shape)

    def _count(self, like: Tensor) -> int:
        return min(like.numel(), max(1, round(self.share * like.numel())))
