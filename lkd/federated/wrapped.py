"""A LightningModule that evaluates and predicts as another one does."""

import inspect
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule


class Wrapped(LightningModule):
    """Holds `client`, and passes validation, test and prediction on to it; its logs become this module's.

    Args:
        client: Any LightningModule.
    """

    def __init__(self, client: LightningModule) -> None:
        super().__init__()
        self.client = client

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The client module's forward, with the server's weights."""
        return self.client(*args, **kwargs)

    def validation_step(self, batch: Any, batch_idx: int = 0) -> Any:
        """The client module's own, with the server's weights."""
        return _call(self.client.validation_step, batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int = 0) -> Any:
        """The client module's own, with the server's weights."""
        return _call(self.client.test_step, batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Any:
        """The client module's own, with the server's weights."""
        return _call(self.client.predict_step, batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        """The client module's own."""
        self.client.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        """The client module's own."""
        self.client.on_validation_epoch_end()

    def on_test_epoch_start(self) -> None:
        """The client module's own."""
        self.client.on_test_epoch_start()

    def on_test_epoch_end(self) -> None:
        """The client module's own."""
        self.client.on_test_epoch_end()

    def setup(self, stage: str) -> None:
        """The client module's own; what that logs goes through this module."""
        self.client.log = lambda *args, **kwargs: self.log(*args, **kwargs)  # type: ignore[method-assign]
        self.client.setup(stage)

    def teardown(self, stage: str) -> None:
        """The client module's own."""
        vars(self.client).pop("log", None)
        self.client.teardown(stage)


def _call(step: Callable[..., Any], batch: Any, index: int) -> Any:
    """A step with or without the number of the batch, as its author wrote it."""
    return step(batch, index) if len(inspect.signature(step).parameters) > 1 else step(batch)
