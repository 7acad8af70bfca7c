"""FedNova: local changes are normalized before they are averaged."""

from typing import TYPE_CHECKING, Any

import torch

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting, require_sgd
from lkd.federated.client.checks import require_descent
from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Lists, Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FedNova(Algorithm):
    """Normalized averaging, in which each client's change is divided by the weight of its steps.

    So clients that make more steps do not pull the model more.

    Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
    NeurIPS 2020, arXiv:2007.07481, eq. (6): `x <- x + tau_eff sum_i p_i Delta_i / ||a_i||_1`. `a_i` holds the
    weight of every local gradient in the change: ones for SGD (`||a_i||_1 = tau_i`), sums of powers of the
    momentum rho, or of `1 - eta mu` with a proximal term. `tau_eff` is `sum_i p_i ||a_i||_1`, with mu > 0
    `sum_i p_i tau_i`, as in the authors' code. The local momentum is the client optimizer's own. Travels what
    FedAvg's does, and two numbers.

    Args:
        mu: Weight of a proximal term at the clients, as in FedProx; not with momentum.
        weighting: How replies are averaged, `p_i`.

    Raises:
        ValueError: For a negative mu, mu together with momentum or `maximize=True`, clients that do not use
            SGD, or step-wise schedules.
    """

    stacks = True

    def __init__(self, mu: float = 0.0, weighting: Weighting = "samples") -> None:
        super().__init__(weighting)
        expect(mu=mu, ge=0)
        self.mu = mu

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses optimizers other than SGD with one rate, for which the gradients' weights are known."""
        require_sgd(type(self).__name__, optimizer, momentum=self.mu == 0)
        if self.mu:
            require_descent(type(self).__name__, optimizer)
        for name in ("lr", "momentum"):
            values = {float(group[name]) for group in optimizer.param_groups}
            if len(values) > 1:
                raise ValueError(f"FedNova needs one {name} for all parameter groups, not {sorted(values)}.")
        if float(optimizer.param_groups[0]["lr"]) * self.mu >= 1:
            lr = optimizer.param_groups[0]["lr"]
            raise ValueError(
                f"mu={self.mu} and lr={lr}: their product must be below 1, or local steps overshoot x."
            )
        if by_step:
            raise ValueError(
                "FedNova does not go with a scheduler of interval='step': use one that counts rounds."
            )

    def correct(self, context: ClientContext) -> None:
        """Adds the gradient of the proximal term, `mu (y - x)`, to each gradient."""
        if self.mu:
            torch._foreach_add_(context.grads, torch._foreach_sub(context.params, context.x), alpha=self.mu)

    def finish(self, context: ClientContext) -> Lists:
        """Replies `||a_i||_1` and the number of steps."""
        group: dict[str, Any] = context.optimizer.param_groups[0]
        keeps = 1 - float(group["lr"]) * self.mu
        norm = counter = 0.0
        for _ in range(context.steps):
            if self.mu:
                norm = keeps * norm + 1
            else:
                counter = float(group.get("momentum", 0.0)) * counter + 1
                norm += counter
        context.reply_metrics = {"norm": norm, "tau": norm if self.mu == 0 else float(context.steps)}
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Returns `tau_eff` times the mean of the normalized changes."""

        def normalized() -> Any:
            for reply in server.train():
                scale = 1 / max(reply.metrics["norm"], 1.0)
                delta = reply.tensors["delta"]
                reply.tensors["delta"] = {name: change * scale for name, change in delta.items()}
                yield reply

        mean = server.mean(normalized(), "delta", metrics=["tau"])
        tau = float(mean["metrics"]["tau"])
        return {name: change * tau for name, change in mean["delta"].items()}
