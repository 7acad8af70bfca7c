"""Training batches to look at, and batch statistics of a network that has lost channels."""

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.nn.modules.batchnorm import _BatchNorm

from lkd.copies import copied
from lkd.distillation.own_call import own_call
from lkd.edge.export.measure import quiet
from lkd.models import PerCamera


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators inside the block, and restores them after it."""
    with isolate_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield


def training_batches(
    module: LightningModule, data: LightningDataModule, count: int, seed: int
) -> list[dict[str, Any] | Any]:
    """Returns the first batches of an epoch as `training_step` gets them on the CPU, labels or not.

    Nothing is trained.

    Args:
        module: Module whose hooks the batches go through. It stays as it is.
        data: Data module of the batches.
        count: Number of batches; for a detector with a copy for each camera, that many of each camera.
        seed: Seed of their order.

    Raises:
        ValueError: If there are no batches.
    """
    cameras = [camera for part in module.modules() if isinstance(part, PerCamera) for camera in part.copies]
    seen, batches = dict.fromkeys(cameras, 0), list[Any]()
    keeper = copied(module, "module")

    def keep(batch: Any, *_: Any, **__: Any) -> None:
        here = set(batch["cameras"]) & seen.keys() if cameras else set[str]()
        if not cameras or any(seen[camera] < count for camera in here):
            batches.append(batch)
        for camera in here:
            seen[camera] += 1
        trainer.should_stop = min(seen.values()) >= count if cameras else len(batches) >= count

    vars(keeper).update(training_step=keep, configure_optimizers=lambda: None)
    with seeded(seed), quiet():
        warnings.filterwarnings(
            "ignore", message=r".*(returned `None`|will run with no optimizer|in eval mode)"
        )
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(keeper, datamodule=data)
    if not batches:
        raise ValueError(
            f"{type(data).__name__} gives no training batches, and pruning looks at some: give training data."
        )
    if missing := [camera for camera, number in seen.items() if not number]:
        raise ValueError(
            f"{type(data).__name__} gives no training frames of {', '.join(missing)}, and the batch statistics of each camera's network "
            "are taken from its own: give some, or leave the camera out of `cameras`."
        )
    return batches


@torch.no_grad()
def reestimate(module: LightningModule, batches: Sequence[Any]) -> None:
    """Computes the statistics of all batch norms anew, where each batch has the same weight.

    In training they are updated again, whatever `freeze_batchnorm` says of the module that was pruned (see
    `Recover`).

    Args:
        module: The module, which is left in eval mode.
        batches: Batches of the training data.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    kept = {norm: (norm.momentum, dict(norm._buffers)) for norm in norms}
    module.eval()
    for norm in norms:
        norm._buffers.update({key: None if b is None else b.clone() for key, b in norm._buffers.items()})
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, not a moving one
        norm.training = True
    try:
        for batch in batches:
            call = own_call(module, batch)
            module(*call.args, **call.kwargs)
    finally:
        for norm, (momentum, buffers) in kept.items():
            norm.momentum = momentum
            norm.training = False
            count = norm.num_batches_tracked
            if count is None or not count.item():  # no batch came through
                norm._buffers.update(buffers)
