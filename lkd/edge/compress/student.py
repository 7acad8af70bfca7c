"""A stage's checkpoint loaded as a module, dense or pruned, in any process."""

from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningModule

from lkd.checkpoint_io import Checkpoints, fill, read
from lkd.copies import copied
from lkd.pruned import replay

M = TypeVar("M", bound=LightningModule)
KEPT = (
    "pytorch-lightning_version",
    "epoch",
    "global_step",
    "hyper_parameters",
    "hparams_name",
    "hparams_type",
)
"""Entries that a pruned student's checkpoint takes over; an optimizer's state would not fit its weights."""


def student(module: M, checkpoint: str | Path) -> M:
    """Copies a module with the weights of a checkpoint, as narrow as pruning left it.

    Args:
        module: The module as configured, dense; it stays as it is.
        checkpoint: Lightning's checkpoint of its class.

    Returns:
        The copy, on the CPU. Its checkpoints hold its pruning, too.

    Raises:
        ValueError: If the checkpoint is damaged, holds objects, or does not fit.

    Example:
        >>> student(Classifier("resnet18"), "pruned.ckpt")  # doctest: +SKIP
    """
    found = read(str(checkpoint))
    twin = copied(module, "module")
    twin.configure_model()
    replay(twin, found)
    twin.on_load_checkpoint(found)
    fill(twin, found["state_dict"], str(checkpoint))
    return twin


def write(module: LightningModule, path: Path, like: Path) -> None:
    """Writes a module's checkpoint, to be tested, exported and recovered, but not resumed.

    Args:
        module: The module.
        path: Where to write it.
        like: The checkpoint that its weights came from.
    """
    before = read(str(like))
    checkpoint: dict[str, Any] = {key: before[key] for key in KEPT if key in before}
    checkpoint["state_dict"] = module.state_dict()
    module.on_save_checkpoint(checkpoint)
    Checkpoints().save_checkpoint(checkpoint, path)
