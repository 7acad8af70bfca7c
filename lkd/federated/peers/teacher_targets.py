"""Answers of a client's teachers, in the order of its steps."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors
from lkd.taps import Call

KEYS = ("rounds", "steps")
"""Tensors of an answer that say which checkpoint gave each row, and for which step."""


class Lesson(NamedTuple):
    """Public batch of a step, and the teachers' answers for it.

    Attributes:
        call: Arguments of the module's forward.
        embedding: Embeddings `(T, B, D)`.
        heads: Logits of all heads, `(T, m + 1, B, C)`.
    """

    call: Call
    embedding: Tensor
    heads: Tensor


class Lessons:
    """Lessons of a client in a round; they begin again if the client makes more steps.

    Args:
        knowledge: Result of `Lessons.of`.
        calls: Gives the calls of the module's forward for the public batches of the round, in order.
        seed: Seed of what a lesson draws.
    """

    def __init__(self, knowledge: Tensors, calls: Callable[[], Iterator[Call]], seed: int) -> None:
        self._knowledge, self._calls = knowledge, calls
        self._batches, self._step = calls(), 0
        self.generator = torch.Generator().manual_seed(seed)

    def next(self) -> Lesson | None:
        """Returns the next step's lesson; None if no teacher answered."""
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
        """Collects the answers of the peers that teach a client, in the order of its steps.

        Args:
            entries: The client's pool, `(size, 2)`: peer and round.
            picks: Places in the pool that teach in each step, `(S, T)`.
            answers: By peer: `heads (n, m + 1, B, C)`, `embedding (n, B, D)`, and the n `steps` that they are
                for, with the `rounds` of the checkpoints that gave them.

        Returns:
            `heads (S, T, m + 1, B, C)`, `embedding (S, T, B, D)` if there is one, and `valid (S, T)`; empty
            without any answer.

        Raises:
            ValueError: If peers have embeddings or heads of different sizes.
        """
        found: Tensors = {}
        valid = torch.zeros(picks.shape, dtype=torch.bool)
        places_of = {
            peer: {asked: at for at, asked in enumerate(zip(*(said[n].tolist() for n in KEYS), strict=True))}
            for peer, said in answers.items()
            if len({len(said.get(name, ())) for name in (*KEYS, "heads")}) == 1 and "heads" in said
        }
        for step, places in enumerate(picks.tolist()):
            for which, place in enumerate(places):
                peer, round = entries[place].tolist()
                at = places_of.get(peer, {}).get((round, step))
                if at is None:
                    continue  # the peer has left, or failed
                valid[step, which] = True
                for part in ("heads", "embedding"):
                    if part in answers[peer]:
                        _put(found, part, answers[peer][part][at], picks.shape, step, which, peer)
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
