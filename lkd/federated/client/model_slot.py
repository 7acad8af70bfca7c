"""One architecture in one process: its training module with optimizer and loop."""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer

from lkd.federated.client.local_optimizer import LocalOptimizer
from lkd.federated.client.training_loop import LocalLoop
from lkd.federated.client.worker import Worker


class ModelSlot:
    """Place where the clients of one architecture work, one after the other.

    Args:
        source: The module, with the weights that clients start from; it is copied.
        personal: Patterns of the layers that never leave a client.
        argument: Name of the user's argument that held the module, for messages.
    """

    def __init__(self, source: LightningModule, personal: Sequence[str], argument: str = "model") -> None:
        self.source, self.worker = source, Worker(source, personal, argument)
        self.attached = False
        self.local_optimizer: LocalOptimizer
        self.loop: LocalLoop

    @property
    def module(self) -> LightningModule:
        """The module on which the clients train."""
        return self.worker.module

    def prepare(self, trainer: Trainer, accumulate: int, clip: float | None, anew: bool) -> None:
        """Takes over weights, device and precision of the Trainer, and creates optimizer and loop.

        Args:
            trainer: The federation's Trainer, or one like it.
            accumulate: Batches per optimizer step of a client.
            clip: Largest norm of a step's gradient; None for no clipping.
            anew: Whether the schedule begins anew; else it continues from a fit with another Trainer.
        """
        schedule = None if anew else self.local_optimizer.state_dict()
        self.worker.prepare(self.source, trainer)
        self.local_optimizer = LocalOptimizer(self.worker.module)  # which makes distillation's adapters
        self.worker.index(self.source)
        if schedule is not None:
            self.local_optimizer.load_state_dict(schedule)
        self.loop = LocalLoop(self.worker, self.local_optimizer, trainer, accumulate, clip)
