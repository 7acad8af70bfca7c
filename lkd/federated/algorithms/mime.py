"""Mime and MimeLite: clients step with the server's momentum, which is fixed during a round."""

from typing import TYPE_CHECKING

import torch

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting, require_sgd
from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Tensors, zeros_like

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class MimeLite(Algorithm):
    """Algorithm whose clients step with the server's momentum, which stays as it is during a round.

    Karimireddy et al., "Breaking the centralized barrier for cross-device federated learning", NeurIPS 2021
    (arXiv:2008.03606 "Mime"), Algorithm 1 with SGDm: local steps `y <- y - eta ((1 - beta) g_i(y) + beta m)`;
    the server then sets `m <- (1 - beta) mean_S grad f_i(x) + beta m`, from gradients of the whole data at
    the old weights. Travels: weights and m down; their change and a gradient up.

    Args:
        beta: The momentum. At 0 this is FedAvg.
        weighting: How replies and gradients are averaged.

    Raises:
        ValueError: For a beta out of [0, 1), or clients that do not use plain SGD.
    """

    stacks = True

    def __init__(self, beta: float = 0.9, weighting: Weighting = "samples") -> None:
        super().__init__(weighting)
        expect(beta=beta, ge=0, lt=1)
        self.beta = beta

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses all but plain SGD, since the server keeps the momentum."""
        require_sgd(type(self).__name__, optimizer)

    def setup(self, x: Tensors) -> None:
        """Sets the momentum m to zero."""
        self.state = {"m": zeros_like(x)}

    def correct(self, context: ClientContext) -> None:
        """Replaces each gradient by `(1 - beta) g + beta m`."""
        torch._foreach_mul_(context.grads, 1 - self.beta)
        torch._foreach_add_(context.grads, context.received["m"], alpha=self.beta)

    def round(self, server: "ServerRound") -> Tensors:
        """Collects the gradient at x, lets clients train, then updates the momentum."""
        gradient = server.mean(server.gradient(), "gradient")["gradient"]
        delta = server.mean(server.train(send={**self.state, **self.sends(gradient)}))["delta"]
        m = list(self.state["m"].values())
        torch._foreach_mul_(m, self.beta)
        torch._foreach_add_(m, list(gradient.values()), alpha=1 - self.beta)
        return delta

    def sends(self, gradient: Tensors) -> dict[str, Tensors]:
        """Returns what clients are sent beside x and m."""
        return {}


class Mime(MimeLite):
    """MimeLite whose clients also remove their drift, as SVRG does: `g_i(y; b) - g_i(x; b) + c` replaces g.

    The same paper, Algorithm 1: c is the gradient at x, averaged over the cohort. Both gradients are of the
    same batch b, so a step costs two. Travels in addition: c.

    Args:
        beta: The momentum. At 0, with full batches and equal steps, this is FedLin.
        weighting: How replies and gradients are averaged.
    """

    stacks = True

    def correct(self, context: ClientContext) -> None:
        """Replaces each gradient by `(1 - beta) (g(y) - g(x) + c) + beta m`."""
        torch._foreach_sub_(context.grads, context.gradient_at(context.x))
        torch._foreach_add_(context.grads, context.received["c"])
        super().correct(context)

    def sends(self, gradient: Tensors) -> dict[str, Tensors]:
        """Returns c, the cohort's mean gradient at x."""
        return {"c": gradient}
