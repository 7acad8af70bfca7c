"""Messages and replies, the only things that pass between server and clients."""

from dataclasses import dataclass, field
from typing import Any

from lkd.federated.protocol.tensors import Groups, Tensors, num_bytes

TELL_SIZES = "tell_sizes"
"""Name of the method by which an algorithm's clients reply the shapes of their tensors alone."""
Config = dict[str, Any]
"""Plain values by name, which JSON can hold."""


class RefusalError(ValueError):
    """Error in the configuration, found at a client; it stops the run, where other errors drop the client."""


@dataclass
class Message:
    """Message from the server to a client.

    Attributes:
        tensors: Groups that are named like the weights, such as `{"x": {...}, "c": {...}}`.
        config: Plain values, such as `{"steps": 5}`.
        knowledge: Tensors of any name and shape, such as `{"logits": ...}`.
    """

    tensors: Groups = field(default_factory=dict)
    config: Config = field(default_factory=dict)
    knowledge: Tensors = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the message: those of its tensors, and eight per plain value."""
        return num_bytes(self.tensors) + self.nbytes_beside

    @property
    def nbytes_beside(self) -> int:
        """Those of them that are not of `tensors`, which many messages have in common."""
        return num_bytes({"knowledge": self.knowledge}) + 8 * _count(self.config)


@dataclass
class Reply:
    """A client's answer, or why there is none.

    Attributes:
        tensors: Groups that are named like the weights, such as `{"delta": {...}}`.
        metrics: Numbers that engine and algorithm report, such as `{"steps": 5.0}`.
        knowledge: Tensors of any name and shape.
        client: Id of the client.
        round: Number of the round that the reply belongs to; -1 where it does not say.
        error: What went wrong, in one sentence; empty if nothing did.
        refused: Whether the error is a mistake in the configuration, so that the run cannot go on.
        cause: The exception, where the client is in this process.
        seconds: How long the client worked.
        logs: What its module logged.
        travelled: Bytes of the reply as it came, where the server has decoded it since; else None.
    """

    tensors: Groups = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    knowledge: Tensors = field(default_factory=dict)
    client: int = -1
    round: int = -1
    error: str = ""
    refused: bool = False
    cause: Exception | None = None
    seconds: float = 0.0
    logs: dict[str, float] = field(default_factory=dict)
    travelled: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the reply: those of its tensors as they came, and eight per number."""
        if self.travelled is not None:
            return self.travelled
        return num_bytes({**self.tensors, "knowledge": self.knowledge}) + 8 * len(self.metrics)


def _count(value: Any) -> int:
    """Counts plain values, including those inside others."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return 1 if inside is None else sum(map(_count, inside))
