"""What a codec is: it turns a tensor into smaller ones, and these back into something like it."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors

Form = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each part that a tensor is encoded into, by the part's name."""


class Codec(ABC):
    """Form in which a client's changes of the weights travel to the server, `Federation(codec=...)`.

    A subclass says which parts it makes (`form`), makes them and reads them. The server checks the parts of a
    reply against `form`, so their shapes and types must follow from the tensor's alone.

    Args:
        error_feedback: Whether a client keeps what its code leaves out, and adds it to its next change (Seide
            et al., INTERSPEECH 2014; Karimireddy et al., ICML 2019, arXiv:1901.09847, Algorithm 1). It costs a
            copy of the weights for each client.
    """

    def __init__(self, error_feedback: bool) -> None:
        self.error_feedback = error_feedback

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in vars(self).items())})"

    @abstractmethod
    def form(self, like: Tensor) -> Form:
        """Returns shape and type of the parts of a tensor.

        Args:
            like: Tensor of its shape and type.
        """

    @abstractmethod
    def encode(self, tensor: Tensor, start: Tensor | None = None) -> Tensors:
        """Encodes a tensor.

        Args:
            tensor: The tensor, of real numbers.
            start: What `start` gave for the client's last tensor of this name.
        """

    @abstractmethod
    def decode(self, parts: Tensors, like: Tensor) -> Tensor:
        """Decodes a tensor.

        Args:
            parts: What `encode` gave.
            like: Tensor of the same shape and type.
        """

    def start(self, parts: Tensors, like: Tensor) -> Tensor | None:
        """Returns what a client keeps for its next tensor of this name; None if that is nothing."""
        return None
