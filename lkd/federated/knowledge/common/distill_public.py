"""Distillation on public data, at a client or at the server."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.batches import Keys
from lkd.federated.client.minimize import minimize
from lkd.federated.knowledge.common.batch_inputs import public_calls, run
from lkd.federated.protocol.client_data import PublicSamples
from lkd.federated.protocol.runtime import Runtime
from lkd.taps import Call, Taps

Compare = Callable[[Any, Tensor], Tensor]
"""The loss of a batch from the model's logits `(B, C)` (or a list of layers' outputs) and the targets."""


def distill(
    module: LightningModule,
    optimizer: torch.optim.Optimizer,
    public: PublicSamples,
    rows: np.ndarray,
    targets: Tensor,
    loss: Compare,
    runtime: Runtime,
    seed: int,
    epochs: int = 1,
    batch_size: int = 256,
    layer: str | Sequence[str] = "",
    clip: float | None = None,
    input_key: Keys | None = None,
) -> int:
    """Trains a model towards targets of public samples, which are shuffled in each epoch.

    Args:
        module: The student.
        optimizer: Optimizer of its parameters.
        public: The public samples.
        rows: Numbers of the samples that have targets.
        targets: `(N, ...)`, one for each of `rows`; no gradient flows into them.
        loss: Compares a batch.
        runtime: How this process moves batches, and in which precision.
        seed: Seed of the order.
        epochs: Passes over the samples.
        batch_size: Samples in a step.
        layer: Layer of the student that is compared; `""` is its forward's output. With several layers the
            loss gets a list.
        clip: Largest norm of a gradient; None for no clipping.
        input_key: Entries of a public batch that the student's forward is given, see `call_of`.

    Returns:
        Number of optimizer steps.
    """
    batches = lessons(module, public, rows, targets, runtime, seed, epochs, batch_size, input_key)
    return minimize(module, optimizer, batches, comparing(module, layer, loss), runtime.trainer, clip)


def lessons(
    module: LightningModule,
    public: PublicSamples,
    rows: np.ndarray,
    targets: Tensor,
    runtime: Runtime,
    seed: int,
    epochs: int,
    batch_size: int,
    input_key: Keys | None = None,
) -> Iterator[tuple[Call, Tensor]]:
    """Yields calls of a module for public samples with their targets, shuffled in each epoch; see `distill`."""
    targets = targets.detach().to(module.device)
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(rows))
        places = torch.from_numpy(order).to(module.device).split(batch_size)
        calls = public_calls(module, public, rows[order], batch_size, runtime, input_key)
        for place, call in zip(places, calls, strict=True):
            yield call, targets[place]


def comparing(
    module: LightningModule, layer: str | Sequence[str], loss: Compare
) -> Callable[[tuple[Call, Tensor]], Tensor]:
    """Returns the loss of a module's layers on one of its `lessons`."""
    layers = [layer] if isinstance(layer, str) else list(layer)

    def compared(lesson: tuple[Call, Tensor]) -> Tensor:
        with Taps(module, layers, "layer") as taps:
            run(module, lesson[0])
        given = [taps.output(one).float() for one in layers]
        return loss(given[0] if isinstance(layer, str) else given, lesson[1])

    return compared


def soft_cross_entropy(logits: Tensor, probabilities: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes the cross entropy with soft targets, mean over the batch.

    It is `-T^2 sum_c q_c log softmax(z / T)_c`, and has the gradient of `T^2 KL(q || p)`.

    Args:
        logits: The student's logits, `(B, C)`.
        probabilities: Targets `(B, C)`, at temperature T already.
        temperature: T.

    Example:
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
        tensor(0.6931)
    """
    logs = F.log_softmax(logits / temperature, dim=1)
    return -(temperature**2) * (probabilities.to(logs) * logs).sum(1).mean()
