"""`LowRank`: matrices as products of two thin ones."""

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.codecs.base import Codec, Form
from lkd.federated.protocol.tensors import Tensors


class LowRank(Codec):
    """Sends each matrix M as two thin ones, `M ~ P Q^T`, by one step of power iteration.

    Vogels, Karimireddy and Jaggi, "PowerSGD", NeurIPS 2019, arXiv:1905.13727, Algorithm 1, for each client by
    itself: `P = M Q`, P is made orthonormal, `Q = M^T P`. Q of the client's last round is where the next one
    starts. A kernel is a matrix with a row for each output. What would not become smaller is sent as it is,
    such as a bias.

    Args:
        rank: Columns of P and Q.
        error_feedback: See `Codec`.

    Example:
        >>> codec, matrix = LowRank(rank=1), torch.outer(torch.arange(4.0), torch.ones(5))
        >>> parts = codec.encode(matrix)
        >>> parts["p"].shape, parts["q"].shape, torch.allclose(codec.decode(parts, matrix), matrix, atol=1e-5)
        (torch.Size([4, 1]), torch.Size([5, 1]), True)
    """

    def __init__(self, rank: int = 2, error_feedback: bool = True) -> None:
        super().__init__(error_feedback)
        expect(rank=rank, ge=1)
        self.rank = rank

    def form(self, like: Tensor) -> Form:
        """Returns the forms of `p` and `q`, or that of `whole`."""
        if not self._thins(like):
            return {"whole": (tuple(like.shape), like.dtype)}
        rows, columns = like.shape[0], like.numel() // like.shape[0]
        return {"p": ((rows, self.rank), torch.float32), "q": ((columns, self.rank), torch.float32)}

    def encode(self, tensor: Tensor, start: Tensor | None = None) -> Tensors:
        """Makes one step of power iteration."""
        if not self._thins(tensor):
            return {"whole": tensor}
        matrix = tensor.flatten(1).float()
        if start is None or start.shape != (matrix.shape[1], self.rank):
            start = torch.randn(
                matrix.shape[1], self.rank, generator=torch.Generator().manual_seed(matrix.shape[1])
            )
        p = torch.linalg.qr(matrix @ start.to(matrix))[0]
        return {"p": p, "q": matrix.T @ p}

    def decode(self, parts: Tensors, like: Tensor) -> Tensor:
        """Multiplies the two."""
        if "whole" in parts:
            return parts["whole"]
        return (parts["p"] @ parts["q"].T).view(like.shape).to(like.dtype)

    def start(self, parts: Tensors, like: Tensor) -> Tensor | None:
        """Returns Q."""
        return parts.get("q")

    def _thins(self, like: Tensor) -> bool:
        if like.ndim < 2 or not like.numel():
            return False
        rows, columns = like.shape[0], like.numel() // like.shape[0]
        return self.rank <= min(rows, columns) and self.rank * (rows + columns) < like.numel()
