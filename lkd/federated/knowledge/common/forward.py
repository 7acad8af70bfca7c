"""Outputs of a client's model on public data."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lkd.addresses import described
from lkd.batches import Keys
from lkd.federated.client.context import ClientContext
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
                    key = next(iter(value), "key") if isinstance(value, Mapping) else 0
                    raise ValueError(
                        f"layer={layer!r} of {type(module).__name__} gives {described(value)}, not logits or features: name the entry, "
                        f"as in '{layer}:{key}'."
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
    """Returns `outputs` of a client's model on samples of the public data, by their numbers; of K stacked, `(K, N, ...)`."""
    module, loop = context.module, context.loop
    calls = public_calls(module, context.public, rows, batch_size, loop, input_key)
    found: list[Tensor] = context.each(lambda: outputs(module, calls, layers, loop.trainer))
    return found
