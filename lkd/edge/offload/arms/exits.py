"""Common parts of the arms with exits: the answers of all exits, and what each costs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lkd.edge.nms import Array
from lkd.edge.offload.arms.arm import Arm, chunks, probabilities
from lkd.edge.offload.arms.work import Work, work
from lkd.edge.offload.gates import Entropy, Gate
from lkd.edge.offload.gates.classes import OfProbabilities
from lkd.models import Cut, MultiExit
from lkd.modules.multi_exit import MultiExitClassifier


class ExitArm(Arm):
    """Arm of a `MultiExitClassifier`.

    Args:
        model: As in `Arm`.
        recipe: As in `Arm`.
        gate: How doubt is measured: `Entropy()`, the default, `Margin()` or `MaxProbability()`.

    Raises:
        ValueError: For a gate that needs more than probabilities.
    """

    kind = MultiExitClassifier

    def __init__(self, model: str, recipe: str | None = None, gate: Gate | None = None) -> None:
        super().__init__(model, recipe)
        chosen = gate or Entropy()
        if not isinstance(chosen, OfProbabilities):
            raise ValueError(
                f"gate={type(chosen).__name__}: an exit knows its probabilities alone; take Entropy, Margin or MaxProbability."
            )
        self.gate = chosen

    def doubts(self, answers: Sequence[Array]) -> Array:
        """Returns the doubts `(E, N)` in the probabilities `(N, C)` of E exits."""
        return np.stack([self.gate.doubt(one) for one in answers])


def answers_of(network: MultiExit, x: Tensor) -> list[Array]:
    """Returns the probabilities `(N, C)` of every exit, from the shallowest to the deepest."""
    with torch.no_grad():
        batches = [network.exits(part)[0] for part in chunks(x)]
    return [probabilities(logits) for logits in zip(*batches, strict=True)]


def stages(network: MultiExit) -> list[Cut]:
    """Returns the network cut behind the stage of each exit except the deepest."""
    return [Cut(network.network, layer) for layer in network.layers[:-1]]


def costs(network: MultiExit, sample: Tensor) -> list[Work]:
    """Returns a sample's costs at each exit: all layers so far, and the exits that it has passed.

    Args:
        network: The network in evaluation mode.
        sample: `(1, C, H, W)`.
    """
    passed, found = Work(0.0, 0.0), []
    for cut, head in zip(stages(network), network.heads, strict=True):
        with torch.no_grad():
            features = cut.head(sample)
        passed += work(head, features)
        found.append(work(cut.head, sample) + passed)
    return [*found, work(network.network, sample) + passed]
