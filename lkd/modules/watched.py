"""A module whose losses are checked now and then, and always before its weights are saved."""

from typing import Any

from lightning.pytorch import LightningModule

from lkd.finite import require_finite_weights
from lkd.looks import for_trainers, look_back


class Watched(LightningModule):
    """LightningModule that checks its steps (`lkd.looks`) at the end of an epoch and before a checkpoint.

    It uses two hooks of the module; a subclass that overrides them calls `super()`.
    """

    @for_trainers
    def on_train_epoch_end(self) -> None:
        """Makes the checks that were put off; a client's are made at the end of its training."""
        if self._trainer is not None and self._trainer.lightning_module is self:
            look_back(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to save weights that are not finite."""
        require_finite_weights(self)
