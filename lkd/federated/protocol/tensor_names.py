"""Which of the server's tensors an architecture has."""

from dataclasses import dataclass

from lkd.federated.protocol.tensors import Tensors


@dataclass(frozen=True)
class Layout:
    """Which of the server's tensors clients of one architecture have: their own name of each, and the server's."""

    weights: dict[str, str]
    buffers: dict[str, str]

    def of_client(self, tensors: Tensors) -> Tensors:
        """Those of the server's tensors that the architecture has, by its own names."""
        return {
            own: tensors[name] for own, name in {**self.weights, **self.buffers}.items() if name in tensors
        }
