"""The only things that pass between server and clients."""

from dataclasses import dataclass, field
from typing import Any

from lkd.federated.protocol.tensors import Groups, Tensors, num_bytes

TELL_SIZES = "tell_sizes"
"""Method of an algorithm that tells the shapes of what a client would tell, and nothing else."""
Config = dict[str, Any]
"""Plain values by name: what JSON can say."""


class RefusalError(ValueError):
    """What is wrong with the configuration, found at a client: it stops the run, where other errors leave a client out."""


@dataclass
class Message:
    """What a client is sent.

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
        """What it takes on the wire: its tensors, and eight bytes a plain value."""
        return num_bytes({**self.tensors, "knowledge": self.knowledge}) + 8 * _count(self.config)


@dataclass
class Reply:
    """A client's answer, or why there is none.

    Attributes:
        tensors: Groups that are named like the weights, such as `{"delta": {...}}`.
        metrics: Numbers that engine and algorithm report, such as `{"steps": 5.0}`.
        knowledge: Tensors of any name and shape.
        client: Id of the client.
        round: Number of the round that it is of; -1 where it does not say.
        error: What went wrong, in one sentence; empty if nothing did.
        refused: Whether that is a mistake in the configuration, so that the run cannot go on.
        cause: The exception, where the client is in this process.
        seconds: How long the client worked.
        logs: What its module logged.
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

    @property
    def nbytes(self) -> int:
        """What it takes on the wire: its tensors, and eight bytes a number."""
        return num_bytes({**self.tensors, "knowledge": self.knowledge}) + 8 * len(self.metrics)


def _count(value: Any) -> int:
    """Plain values, those inside others among them."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return 1 if inside is None else sum(map(_count, inside))
