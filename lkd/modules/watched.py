"""A module whose losses are looked at now and then, and at the latest before its weights are saved."""

from typing import Any

from lightning.pytorch import LightningModule

from lkd.finite import require_finite_weights
from lkd.looks import look_back


class Watched(LightningModule):
    """A LightningModule that looks back at its steps (`lkd.looks`) where an epoch ends and where a checkpoint is written.

    The two hooks are the module's own: a subclass that has them too calls `super()`.
    """

    def on_train_epoch_end(self) -> None:
        """Looks at what the epoch's steps have put off; a client's are looked at where its training ends."""
        if self._trainer is not None and self._trainer.lightning_module is self:
            look_back(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to save weights that are not finite."""
        require_finite_weights(self)
