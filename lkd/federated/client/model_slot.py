"""One architecture in one process: its module at the server, the copy that trains, optimizer and loop."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lkd.federated.client.local_optimizer import LocalOptimizer
from lkd.federated.client.training_loop import LocalLoop
from lkd.federated.client.worker import Worker, matches
from lkd.federated.protocol.tensor_names import Layout
from lkd.federated.server.local_work import LocalTraining


class Station:
    """Where the clients of one architecture work, one after the other.

    Args:
        source: The module at the server, with the weights that clients start from.
        personal: Patterns of the layers that never leave a client.
        prefix: Goes before the names of its tensors at the server.
        common: Patterns of the layers that keep their names there, as they are another architecture's too.
        argument: The user's argument that the module was given as, for messages.
    """

    def __init__(
        self,
        source: LightningModule,
        personal: Sequence[str],
        prefix: str = "",
        common: Sequence[str] = (),
        argument: str = "model",
    ) -> None:
        self.source, self.worker = source, Worker(source, personal, argument)
        self._prefix, self._common = prefix, list(common)
        self.attached = False

    @property
    def module(self) -> LightningModule:
        """The module on which the clients train."""
        return self.worker.module

    @property
    def layout(self) -> Layout:
        """Names of what is shared."""
        return Layout(
            {name: self._at_server(name) for name in self.worker.shared},
            {name: self._at_server(name) for name in self.worker.buffers},
        )

    def _at_server(self, name: str) -> str:
        return name if matches(name, self._common) else self._prefix + name

    def prepare(self, trainer: Trainer, work: LocalTraining, anew: bool) -> None:
        """Takes over weights, device and precision of the Trainer.

        Args:
            trainer: The federation's.
            work: What of it is a client's.
            anew: Whether the schedule begins; else it stays where a fit of another Trainer left it.
        """
        schedule = None if anew else self.local_optimizer.state_dict()
        self.worker.prepare(self.source, trainer)
        self.local_optimizer: LocalOptimizer = LocalOptimizer(
            self.worker.module
        )  # which makes distillation's adapters
        self.worker.index(self.source)
        if schedule is not None:
            self.local_optimizer.load_state_dict(schedule)
        self.loop = LocalLoop(self.worker, self.local_optimizer, trainer, work.accumulate, work.clip)

    @torch.no_grad()
    def keep_common(self, first: LightningModule) -> None:
        """Copies the layers that it has in common with the first architecture from there, where they are learnt."""
        theirs: dict[str, Any] = {**dict(first.named_parameters()), **dict(first.named_buffers())}
        ours = {**dict(self.source.named_parameters()), **dict(self.source.named_buffers())}
        for name in (*self.worker.shared, *self.worker.buffers):
            if self._prefix and matches(name, self._common):
                ours[name].copy_(theirs[name])
