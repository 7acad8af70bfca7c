"""Outputs of a client's model on public data, and training steps on other losses than the module's own."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lkd.batches import Keys
from lkd.federated.client.context import ClientContext
from lkd.federated.client.single_samples import watching
from lkd.federated.knowledge.common.batch_inputs import public_calls, run
from lkd.taps import Call, Taps


def draw(seed: int, round: int, size: int, samples: int | None) -> np.ndarray:
    """Draws the numbers of a round's public samples. All draw the same ones, so they need not travel.

    Args:
        seed: Seed of the federation.
        round: Number of the round.
        size: Number of public samples.
        samples: How many to draw; None for all, in order. Beyond `size`, another permutation begins.

    Example:
        >>> draw(0, 0, 4, None), len(draw(0, 0, 4, 6)), sorted(draw(0, 0, 4, 4).tolist())
        (array([0, 1, 2, 3]), 6, [0, 1, 2, 3])
    """
    if samples is None:
        return np.arange(size)
    generator = np.random.default_rng([seed, round, 0x7075626C6963])
    passes = [generator.permutation(size) for _ in range(-(-samples // size))]
    return np.concatenate(passes)[:samples]


@torch.no_grad()
def outputs(
    module: nn.Module, calls: Iterable[Call], layers: Sequence[str], trainer: Trainer
) -> list[Tensor]:
    """Runs a module in eval mode, and returns outputs of its layers in float32, joined along the batch.

    Args:
        module: The module.
        calls: Arguments of its forward, on its device.
        layers: Addresses as `lkd.taps.Taps` reads them; `""` is what the module's forward returns.
        trainer: The Trainer, whose precision is used.

    Raises:
        ValueError: For a layer that does not exist or gives no tensor.
    """
    training = module.training
    module.eval()
    found: list[list[Tensor]] = [[] for _ in layers]
    try:
        for call in calls:
            with trainer.precision_plugin.forward_context(), Taps(module, layers, "layer") as taps:
                run(module, call)
            for layer, into in zip(layers, found, strict=True):
                value = taps.output(layer)
                if not isinstance(value, Tensor):
                    raise ValueError(
                        f"layer={layer!r} of {type(module).__name__} gives a {type(value).__name__}, not logits or features."
                    )
                into.append(value.float())
    finally:
        module.train(training)
    return [torch.cat(parts) for parts in found]


def outputs_of(
    context: ClientContext,
    rows: Sequence[int] | np.ndarray,
    layers: Sequence[str],
    batch_size: int,
    input_key: Keys | None = None,
) -> list[Tensor]:
    """Returns `outputs` of a client's model on samples of the public data, by their numbers."""
    calls = public_calls(context.module, context.public, rows, batch_size, context.loop, input_key)
    return outputs(context.module, calls, layers, context.loop.trainer)


def minimize(
    module: LightningModule,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    loss: Callable[[Any], Tensor],
    trainer: Trainer,
    clip: float | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Makes an optimizer step per batch on another loss than the module's own; none of its hooks run.

    Args:
        module: The module that trains; it is set to train mode.
        optimizer: Optimizer of its parameters.
        batches: Batches on the module's device.
        loss: Computes the loss of a batch.
        trainer: The Trainer, whose precision is used.
        clip: Largest norm of a gradient; None for no clipping.
        scheduler: Stepped after every step.

    Returns:
        Number of steps.
    """
    scales = getattr(trainer.precision_plugin, "scaler", None) is not None
    scaler = torch.amp.GradScaler(module.device.type, enabled=scales)
    module.train()
    steps = 0
    with watching(module, "a step on public or generated samples has a batch of one"):
        for batch in batches:
            module.zero_grad()  # also of parameters that the optimizer does not have
            with trainer.precision_plugin.forward_context():
                value = loss(batch)
            scaler.scale(value).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
            steps += 1
    module.zero_grad()
    return steps
