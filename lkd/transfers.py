"""Transfer of a batch to the device with the hooks of data module and module, outside of Trainer loops."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lkd.packages import base_of, overrides

HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks around the transfer of a batch to the device, in their order."""


def hooks_of(owner: LightningModule | LightningDataModule | None) -> list[str]:
    """Returns the hooks that a module or a data module has of its own.

    Example:
        >>> hooks_of(LightningDataModule())
        []
    """
    return [] if owner is None else [hook for hook in HOOKS if overrides(owner, hook)]


def through_data(batch: Any, data: LightningDataModule, trainer: Trainer) -> Any:
    """Applies the data module's part of a transfer: its hooks, the Trainer's precision and device."""
    batch = data.on_before_batch_transfer(trainer.precision_plugin.convert_input(batch), 0)
    batch = data.transfer_batch_to_device(batch, trainer.strategy.root_device, 0)
    return data.on_after_batch_transfer(batch, 0)


def through_module(batch: Any, module: LightningModule, trainer: Trainer) -> Any:
    """Applies the rest of a transfer: the hooks of the module that the Trainer's data module does not have.

    This is Lightning's own rule: if both have a hook, only the data module's runs.
    """
    theirs = hooks_of(_data(trainer))
    before, to_device, after = (
        partial(getattr(base_of(module), hook), module) if hook in theirs else getattr(module, hook)
        for hook in HOOKS
    )
    batch = before(trainer.precision_plugin.convert_input(batch), 0)
    return after(to_device(batch, module.device, 0), 0)


def check_hooks(module: LightningModule, trainer: Trainer) -> None:
    """Refuses hooks that batches of clients would not run through, or in another order than Lightning's.

    Args:
        module: The client's module.
        trainer: The federation's Trainer; a data module with `carries_batches` sends its clients' batches
            through its hooks.

    Raises:
        ValueError: If there are such hooks.
    """
    data = _data(trainer)
    theirs = hooks_of(data)
    if theirs and not getattr(data, "carries_batches", False):
        raise ValueError(
            f"{type(data).__name__} has {theirs[0]}(), which the batches of its clients would not pass through: move it into "
            "the clients, the LightningModule, or the data of a FederatedDataModule."
        )
    ours = [hook for hook in hooks_of(module) if hook not in theirs]
    late = [hook for hook in theirs if ours and HOOKS.index(hook) > HOOKS.index(ours[0])]
    if late:
        raise ValueError(
            f"{late[0]} of the data and {ours[0]} of {type(module).__name__}: batches of clients go through the data module's "
            "hooks first; put both hooks into one of them."
        )


@contextmanager
def stage(trainer: Trainer, name: Literal["training", "validating", "testing"]) -> Iterator[None]:
    """Makes the Trainer's state `training`, `validating` or `testing` inside the block, for hooks."""
    before = trainer.state.stage
    setattr(trainer, name, True)
    try:
        yield
    finally:
        trainer.state.stage = before


def _data(trainer: Trainer) -> LightningDataModule | None:
    return getattr(trainer, "datamodule", None)
