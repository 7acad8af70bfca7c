"""What a client's teachers said, put in the order of its steps."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors
from lkd.taps import Call


class Lesson(NamedTuple):
    """What the module is called with in a step for its public batch, and what teachers say of it: embeddings `(T, B, D)`, heads `(T, m + 1, B, C)`."""

    call: Call
    embedding: Tensor
    heads: Tensor


class Lessons:
    """A client's lessons of a round, begun again if it makes more steps.

    Args:
        knowledge: What `Lessons.of` put together.
        calls: Gives what the module's forward is called with for the public batches of the round, in order.
        seed: Of what a lesson draws.
    """

    def __init__(self, knowledge: Tensors, calls: Callable[[], Iterator[Call]], seed: int) -> None:
        self._knowledge, self._calls = knowledge, calls
        self._batches, self._step = calls(), 0
        self.generator = torch.Generator().manual_seed(seed)

    def next(self) -> Lesson | None:
        """The next step's; None where no teacher answered."""
        steps = len(self._knowledge["valid"])
        if self._step == steps:
            self._batches, self._step = self._calls(), 0
        call, step = next(self._batches), self._step
        self._step += 1
        valid = self._knowledge["valid"][step]
        if not valid.any():
            return None
        embedding = self._knowledge.get("embedding")
        return Lesson(
            call,
            torch.empty(0) if embedding is None else embedding[step][valid],
            self._knowledge["heads"][step][valid],
        )

    @staticmethod
    def of(entries: Tensor, picks: Tensor, answers: dict[int, Tensors]) -> Tensors:
        """What a client is sent: the answers of the peers that teach it, in the order of its steps.

        Args:
            entries: Its pool, `(size, 2)`: peer and round.
            picks: Places in the pool that teach in each step, `(S, T)`.
            answers: By peer: `"<round>/heads"` `(n, m + 1, B, C)`, `"<round>/embedding"` `(n, B, D)`, and the n steps of
                the round that they are for.

        Returns:
            `heads (S, T, m + 1, B, C)`, `embedding (S, T, B, D)` if there is one, and `valid (S, T)`; empty if nobody
            teaches.

        Raises:
            ValueError: If peers have embeddings or heads of different sizes.
        """
        found: Tensors = {}
        valid = torch.zeros(picks.shape, dtype=torch.bool)
        for step, places in enumerate(picks.tolist()):
            for which, place in enumerate(places):
                peer, round = entries[place].tolist()
                said = answers.get(peer, {})
                if f"{round}/steps" not in said:
                    continue  # it has left, or failed
                at = int((said[f"{round}/steps"] == step).nonzero())
                valid[step, which] = True
                for part in ("heads", "embedding"):
                    if f"{round}/{part}" in said:
                        _put(found, part, said[f"{round}/{part}"][at], picks.shape, step, which, peer)
        return {**found, "valid": valid} if found else {}


def _put(
    found: Tensors, part: str, value: Tensor, shape: torch.Size, step: int, which: int, peer: int
) -> None:
    if part not in found:
        found[part] = value.new_zeros(*shape, *value.shape)
    if found[part].shape[2:] != value.shape:
        what = "classes or auxiliary heads" if part == "heads" else "an embedding"
        raise ValueError(
            f"peer {peer} has {what} of another size than the others ({tuple(value.shape)}, not "
            f"{tuple(found[part].shape[2:])} a step): give all clients MultiHeadClassifier modules with one embedding size, "
            "the same number of heads, and heads over all classes."
        )
    found[part][step, which] = value
