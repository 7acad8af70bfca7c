"""An oracle at the server: a trained model labels public samples, and clients of any model learn them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.knowledge.common.batch_inputs import public_calls
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.knowledge.common.public_logits import PublicExchange
from lkd.federated.protocol.messages import Config
from lkd.federated.protocol.tensors import Tensors
from lkd.teachers import Teacher

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class ServerTeacher(PublicExchange):
    """Distillation from a frozen teacher at the server, by its probabilities of public samples.

    In a round, clients digest the teacher's probabilities, then train. The teacher may have modalities that
    no client has: it takes a public sample as a whole, a client takes the modalities that it owns. The loss
    of the digestion is `T^2` times the KL divergence of the student's softened probabilities from the
    teacher's (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
    arXiv:1503.02531, section 2). The client's own labels are learned in the training that follows, so the two
    losses are not added.

    Travels: down N x C numbers of N public samples, with the number of the round and its seed; up only the
    number of steps that a client made. The public data themselves are not counted, as in all algorithms.

    Args:
        teacher: The model. It stays at the server; no client gets it.
        samples: Public samples in a round, drawn anew each round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        temperature: T, above 0.
        layer: Layer of the client's module that gives the logits; `""` is its forward's output.
        warmup: Rounds of private training before the first digestion.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        TypeError: For a teacher that is not a `Teacher`.
        ValueError: For numbers out of range; before any training, without public data, or if the teacher and
            the clients have different classes.

    Example:
        >>> from torch import nn
        >>> ServerTeacher(Teacher(nn.Linear(4, 3)), temperature=2.0).temperature
        2.0
    """

    stacks = True

    def __init__(
        self,
        teacher: Teacher,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        temperature: float = 2.0,
        layer: str = "",
        warmup: int = 0,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, warmup, input_key)
        if not isinstance(teacher, Teacher):
            inside = repr(teacher) if isinstance(teacher, str) else type(teacher).__name__
            raise TypeError(f"teacher={inside} must be a Teacher; wrap it: Teacher({inside}).")
        expect(temperature=temperature, gt=0)
        self.teacher, self.temperature = teacher, temperature

    def setup(self, x: Tensors) -> None:
        """Loads the teacher, or trains it by its recipe."""
        super().setup(x)
        self.teacher.prepare()

    def targets(self, server: "ServerRound", config: Config) -> Tensor:
        """Returns the teacher's softened probabilities of the round's samples; no client is asked."""
        return self._say(server, self.rows(server.seed, server.index, len(server.public)))

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes `T^2` times the cross entropy with the teacher's probabilities."""
        return soft_cross_entropy(logits, targets, self.temperature)

    def _say(self, server: "ServerRound", rows: Sequence[int] | np.ndarray) -> Tensor:
        """Computes the teacher's softened probabilities of public samples."""
        loop, teacher, said = server.runtime, self.teacher.to(server.models[0].device), []
        for call in public_calls(teacher.asked, server.public, rows, self.batch_size, loop, self.input_key):
            with loop.trainer.precision_plugin.forward_context():
                said.append((teacher(call).float() / self.temperature).softmax(-1))
        return torch.cat(said)

    def _check(self, server: "ServerRound") -> None:
        """Refuses also a teacher with different classes."""
        if self._checked:
            return
        super()._check(server)
        calls = public_calls(server.models[0], server.public, [0], 1, server.runtime, self.input_key)
        (ours,) = outputs(server.models[0], calls, [self.layer], server.runtime.trainer)
        taught, learned = tuple(self._say(server, [0]).shape[1:]), tuple(ours.shape[1:])
        if taught != learned:
            raise ValueError(
                f"the teacher tells {taught} numbers of a sample, and layer={self.layer!r} of the clients gives {learned}: both "
                "must be logits of the same classes, in the same order."
            )
