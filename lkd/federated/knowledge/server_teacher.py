"""An oracle at the edge server: a trained model says what public samples are, and clients of any architecture learn it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lkd.federated.knowledge.distil import soft_cross_entropy
from lkd.federated.knowledge.exchange import PublicExchange
from lkd.federated.knowledge.outputs import outputs
from lkd.federated.tensors import Tensors
from lkd.teachers import Teacher

if TYPE_CHECKING:
    from lkd.federated.round import Round


class ServerTeacher(PublicExchange):
    """Every round the server's frozen teacher tells its probabilities of public samples; clients digest them, then train.

    The teacher may have modalities that no client has: it sees a public sample whole, a client the modalities that it
    owns. Digested is `T^2` times the KL divergence of the student's softened probabilities from the teacher's (Hinton,
    Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2), and the
    client's own labels in the training that follows, so both losses have a turn of their own.

    Travels: down N x C numbers of N public samples, with the number of the round and its seed; up nothing but how many
    steps a client made. What the public data themselves cost is not counted, as everywhere.

    Args:
        teacher: The model. It is at the server alone; no client ever gets it.
        samples: Public samples in a round, drawn anew each round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        temperature: T, above 0.
        layer: Layer of the client's module that gives the logits; `""` is its forward's output.
        warmup: Rounds of private training before the first lesson.

    Raises:
        TypeError: For a teacher that is no `Teacher`.
        ValueError: For numbers out of range; before anybody trains, without public data, or if the teacher has other
            classes than the clients.

    Example:
        >>> from torch import nn
        >>> ServerTeacher(Teacher(nn.Linear(4, 3)), temperature=2.0).temperature
        2.0
    """

    def __init__(
        self,
        teacher: Teacher,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        temperature: float = 2.0,
        layer: str = "",
        warmup: int = 0,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, warmup)
        if not isinstance(teacher, Teacher):
            inside = repr(teacher) if isinstance(teacher, str) else type(teacher).__name__
            raise TypeError(f"teacher={inside} must be a Teacher; wrap it: Teacher({inside}).")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be above 0.")
        self.teacher, self.temperature = teacher, temperature

    def setup(self, x: Tensors) -> None:
        """Loads the teacher, or trains it where a recipe says how."""
        super().setup(x)
        self.teacher.prepare()

    def targets(self, server: "Round", numbers: dict[str, float]) -> Tensor:
        """The teacher's softened probabilities of the round's samples; nobody is asked."""
        rows = self.rows(server.seed, server.index, len(server.public))
        return torch.cat([self._say(server, batch) for batch in server.public.batches(rows, self.batch_size)])

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`T^2` times the cross entropy with the teacher's probabilities."""
        return soft_cross_entropy(logits, targets, self.temperature)

    def _say(self, server: "Round", batch: Any) -> Tensor:
        """Softened probabilities of a batch, wherever the clients train."""
        loop = server.loop
        with loop.trainer.precision_plugin.forward_context():
            logits = self.teacher.to(server.models[0].device)(loop.on_device(batch))
        return (logits.float() / self.temperature).softmax(-1)

    def _check(self, server: "Round") -> None:
        """Refuses a teacher of other classes, too."""
        if self._checked:
            return
        super()._check(server)
        (batch,) = server.public.batches([0], 1)
        (ours,) = outputs(server.models[0], [server.loop.on_device(batch)], [self.layer], server.loop.trainer)
        taught, learnt = tuple(self._say(server, batch).shape[1:]), tuple(ours.shape[1:])
        if taught != learnt:
            raise ValueError(
                f"the teacher tells {taught} numbers of a sample, and layer={self.layer!r} of the clients gives {learnt}: both "
                "must be logits of the same classes, in the same order."
            )
