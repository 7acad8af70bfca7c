"""A client at work: what the client's half of an algorithm sees, and changes."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lkd.federated.loop import LocalLoop

Lists = dict[str, list[Tensor]]
"""Tensors by group, each list aligned with the shared trainable parameters."""


class ClientRun:
    """The state of one client in one round.

    Attributes:
        module: The module that trains.
        names: Names of `params` in it.
        params: The shared trainable parameters `y`, live.
        x: The server's values of them.
        sent: What the server sent beside x.
        own: The client's own state; what is put here is kept for its next round.
        numbers: Numbers that the server sent.
        planned: Optimizer steps that this client is to make, `tau_i`.
        steps: Optimizer steps made so far; fp16 may skip some.
        report: Numbers that go up with the reply.
        correction: For the algorithm: what it adds to every gradient of this run.
    """

    def __init__(
        self,
        loop: "LocalLoop",
        x: list[Tensor],
        sent: Lists,
        own: Lists,
        numbers: dict[str, float],
        planned: int,
        ordered: Callable[[], Iterable[Any]],
    ) -> None:
        self.module, self.names = loop.worker.module, loop.worker.shared
        self.params: list[Tensor] = loop.worker.parameters
        self.x, self.sent, self.own, self.numbers = x, sent, own, numbers
        self.planned, self.steps = planned, 0
        self.report: dict[str, float] = {}
        self.correction: list[Tensor] = []
        self._loop, self._ordered = loop, ordered

    @property
    def grads(self) -> list[Tensor]:
        """The gradients of `params`, live; a parameter that the loss does not reach has zeros."""
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        return [p.grad for p in self.params]  # type: ignore[misc]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The client's own optimizer."""
        return self._loop.local.optimizer

    @property
    def rates(self) -> list[float]:
        """The present learning rate of each of `params`; 0 for one that is not optimized."""
        groups = self.optimizer.param_groups
        rate = {id(p): float(group["lr"]) for group in groups for p in group["params"]}
        return [rate.get(id(p), 0.0) for p in self.params]

    def scale_rates(self, factor: float) -> None:
        """Multiplies this client's learning rates in this round."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * factor  # a rate that is a tensor is the next client's too

    def gradient_at(self, point: list[Tensor]) -> list[Tensor]:
        """The gradient of this step's batches at another point, with the same draws from torch's generators.

        Weights, buffers and logs stay as they are. A torchmetrics metric that `training_step` updates sees the
        batches twice.
        """
        return self._loop.gradient_at(point)

    def full_gradient_at_x(self) -> list[Tensor]:
        """The gradient of the client's whole training data at x: one more pass over it."""
        return self._loop.full_gradient(self._ordered(), self.x)
