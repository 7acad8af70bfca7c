"""Closes a federation's engine where Lightning does not: after an error, and after Ctrl+C."""

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer


class Closing(Callback):
    """Callback that closes the engine of the federation that failed; Lightning calls no teardown then."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the engine."""
        cast(Any, pl_module).engine.close()


def watch(trainer: Trainer) -> None:
    """Adds `Closing` to a Trainer that has none, as its last callback.

    A model's own callbacks come before checkpoints with Lightning, and a checkpoint that is written because
    of the error still needs the engine, so it is not given by `configure_callbacks`.

    Args:
        trainer: The Trainer, in the first hook of a fit, validation or test.
    """
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    if not any(isinstance(callback, Closing) for callback in callbacks):
        callbacks.append(Closing())
