"""Distillation into a model at the server, with early stopping."""

from collections.abc import Iterator

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.batches import Keys
from lkd.federated.client.minimize import minimize
from lkd.federated.knowledge.common.batch_inputs import public_calls, run
from lkd.federated.knowledge.common.distill_public import Compare
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.protocol.client_data import PublicSamples
from lkd.federated.protocol.runtime import Runtime
from lkd.taps import Call, Taps

APART = 10
"""One public sample in this many is held out, to see whether distillation still helps."""


def fit(
    student: LightningModule,
    parameters: list[Tensor],
    public: PublicSamples,
    targets: Tensor,
    loss: Compare,
    runtime: Runtime,
    seed: int,
    steps: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    patience: int = 1000,
    check: int = 100,
    layer: str = "",
    input_key: Keys | None = None,
) -> None:
    """Distills by Adam with cosine annealing, and keeps the best weights and buffers on held-out samples.

    If no step lowers the loss on them, the student ends as it began.

    Args:
        student: The model.
        parameters: Parameters of the model that train.
        public: The public samples.
        targets: `(N, ...)`, one for every public sample.
        loss: Compares a batch.
        runtime: How this process moves batches, and in which precision.
        seed: Seed of the split and of the order.
        steps: Largest number of steps.
        batch_size: Samples in a step.
        lr: First learning rate.
        patience: Steps without a lower loss after which it stops.
        check: Steps between two measurements of the loss.
        layer: Layer of the student that is compared.
        input_key: Entries of a public batch that the student's forward is given, see `call_of`.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(targets))
    apart, rest = np.split(order, [len(order) // APART])
    if not len(apart):
        apart = rest
    targets = targets.detach().float().to(student.device)

    def batches(many: int) -> Iterator[tuple[Call, Tensor]]:
        rows = [generator.choice(rest, min(batch_size, len(rest)), replace=False) for _ in range(many)]
        calls = public_calls(student, public, np.concatenate(rows), len(rows[0]), runtime, input_key)
        for chosen, call in zip(rows, calls, strict=True):
            yield call, targets[torch.from_numpy(chosen)]

    def step(batch: tuple[Call, Tensor]) -> Tensor:
        with Taps(student, [layer], "layer") as taps:
            run(student, batch[0])
        return loss(taps.output(layer).float(), batch[1])

    def apart_loss() -> float:
        given = public_calls(student, public, apart, batch_size, runtime, input_key)
        (found,) = outputs(student, given, [layer], runtime.trainer)
        return float(loss(found, targets[torch.from_numpy(apart)]))

    def state() -> list[Tensor]:
        return [t.detach().clone() for t in (*parameters, *student.buffers())]

    optimizer = torch.optim.Adam(parameters, lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    best, lowest, since, done = state(), apart_loss(), 0, 0
    while done < steps and since < patience:
        many = min(check, steps - done)
        with torch.enable_grad():
            minimize(student, optimizer, batches(many), step, runtime.trainer, scheduler=scheduler)
        done, found = done + many, apart_loss()
        since = 0 if found < lowest else since + many
        if found < lowest:
            best, lowest = state(), found
    with torch.no_grad():
        for tensor, value in zip((*parameters, *student.buffers()), best, strict=True):
            tensor.copy_(value)
