"""FedLin: exact convergence with clients that differ in data and in speed."""

from typing import TYPE_CHECKING

import torch

from lkd.federated.algorithms.base import Algorithm, Weighting, require_sgd
from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FedLin(Algorithm):
    """Local steps along `grad f_i(y) - grad f_i(x) + mean_j grad f_j(x)` at the rate `eta / tau_i`.

    Mitra et al., "Linear Convergence in Federated Learning: Tackling Client Heterogeneity and Sparse
    Gradients", NeurIPS 2021, arXiv:2102.07053, eq. (3): all clients take part in every round, and a client
    that makes more steps makes smaller ones. Converges linearly to the exact minimizer of smooth, strongly
    convex objectives. With mini-batches the first term is the batch's gradient, the other two stay those of
    the whole data. Travels: the gradient at x up and their mean down, in an exchange before the training.

    Args:
        weighting: How replies are averaged. Default: `"uniform"`, as in the paper.

    Raises:
        ValueError: If clients do not use plain SGD, or a cohort lacks a client.
    """

    stacks = True

    keeps_full_gradient = True

    def __init__(self, weighting: Weighting = "uniform") -> None:
        super().__init__(weighting)

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses all but plain SGD, since the correction is one of a gradient step."""
        require_sgd(type(self).__name__, optimizer)

    def begin(self, context: ClientContext) -> None:
        """Scales the rates by the number of steps, and computes the correction for the whole round."""
        context.scale_rates(1 / context.planned)
        context.correction = list(torch._foreach_sub(context.received["mean"], context.state.pop("gradient")))

    def correct(self, context: ClientContext) -> None:
        """Replaces each gradient by `g - grad f_i(x) + mean`."""
        torch._foreach_add_(context.grads, context.correction)

    def round(self, server: "ServerRound") -> Tensors:
        """Collects the gradients at x, then trains."""
        if len(server.cohort) < server.population:
            raise ValueError(
                f"FedLin needs all {server.population} clients in every round, not {len(server.cohort)}: give the data no "
                "`cohort` (and `heterogeneity` without lost replies), or use SCAFFOLD or Mime."
            )
        mean = server.mean(server.gradient(), "gradient")["gradient"]
        return server.mean(server.train(send={"mean": mean}))["delta"]
