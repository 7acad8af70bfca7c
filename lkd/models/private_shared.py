"""Two networks over the same input: one stays with its client, one is common to all clients."""

from typing import Literal

from torch import Tensor, nn

from lkd.checks import expect

Answer = Literal["private", "shared"]


class PrivateShared(nn.Module):
    """A private and a shared network, for methods in which clients train both and send only the second.

    Layers by address: `private`, `shared`, and `adapter`, which brings a hidden state of the shared network
    to the size of one of the private network's where a method compares them; `forward` does not call it.

    Args:
        private: Any network that gives logits `(B, classes)`.
        shared: Network that gives logits `(B, classes)`, most often a smaller one.
        answer: Which of the two `forward` returns. Both run, so that both can be tapped.
        adapter: The module at the address `adapter`. Default: none.

    Raises:
        ValueError: If both are the same object, or `answer` is neither.

    Example:
        >>> import torch
        >>> net = PrivateShared(nn.Linear(4, 3), nn.Linear(4, 3))
        >>> x = torch.ones(2, 4)
        >>> torch.equal(net(x), net.private(x))
        True
    """

    def __init__(
        self,
        private: nn.Module,
        shared: nn.Module,
        answer: Answer = "private",
        adapter: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if private is shared:
            raise ValueError("private and shared must be two networks, each its own object.")
        expect(answer=answer, among=("private", "shared"))
        self.private, self.shared, self.answer = private, shared, answer
        self.adapter: nn.Module = nn.Identity() if adapter is None else adapter

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits `(B, classes)` of the answering network."""
        private, shared = self.private(x), self.shared(x)
        return private if self.answer == "private" else shared
