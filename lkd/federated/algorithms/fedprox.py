"""FedProx: local training that is held near the server's weights."""

import torch

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.client.checks import require_descent
from lkd.federated.client.context import ClientContext


class FedProx(Algorithm):
    """FedAvg whose clients minimize `F_i(y) + mu/2 ||y - x||^2`.

    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127, eq. (2). The
    gradient of the term, `mu (y - x)`, is added to each step's gradient, so the loss that is logged excludes
    it. The paper's stragglers, whose partial work is kept, are `SystemHeterogeneity(straggler_share=...)`.
    Travels what FedAvg's does.

    Args:
        mu: Weight of the term; the paper tunes it over .001 to 1. At 0 this is FedAvg.
        weighting: How replies are averaged.

    Raises:
        ValueError: For a negative mu, or clients whose optimizer has `maximize=True`.
    """

    stacks = True
    sends_one_change = True

    supports_multiple_models = True
    supports_modality_weighting = True

    def __init__(self, mu: float = 0.01, weighting: Weighting = "samples") -> None:
        super().__init__(weighting)
        expect(mu=mu, ge=0)
        self.mu = mu

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses an optimizer that climbs, which the term would push away from x."""
        if self.mu:
            require_descent(type(self).__name__, optimizer)

    def correct(self, context: ClientContext) -> None:
        """Adds the gradient of the proximal term, `mu (y - x)`, to each gradient."""
        torch._foreach_add_(context.grads, torch._foreach_sub(context.params, context.x), alpha=self.mu)
