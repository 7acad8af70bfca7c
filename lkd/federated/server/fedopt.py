"""The adaptive server optimizers of FedOpt, as torch optimizers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.protocol.tensors import as_real


class FedAdam(torch.optim.Optimizer):
    """Adam on the mean change of the weights (FedAdam).

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2:
    `m <- beta1 m + (1 - beta1) Delta`, `v <- beta2 v + (1 - beta2) Delta^2`,
    `x <- x + lr m / (sqrt(v) + tau)`, with `m = 0` and `v = tau^2` at first and **no bias correction**.
    `torch.optim.Adam`, which corrects both moments, is the alternative. `Federation` takes it as
    `server_optimizer`; its gradient is `-Delta`.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate of the server. Default .1.
        beta1: Decay of the mean change.
        beta2: Decay of its square.
        tau: Degree of adaptivity; smaller is more adaptive.

    Raises:
        ValueError: For a rate or tau that is not above 0, or a beta out of [0, 1).

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> optimizer = FedAdam([weight], lr=0.1, tau=0.1)
        >>> weight.grad = torch.tensor([-1.0])
        >>> optimizer.step()
        >>> weight.detach()
        tensor([0.0415])
    """

    def __init__(
        self, params: Any, lr: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 0.001
    ) -> None:
        expect(lr=lr, tau=tau, gt=0)
        expect(beta1=beta1, beta2=beta2, ge=0, lt=1)
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "tau": tau})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes the step of a round, and returns the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for x in group["params"]:
                if x.grad is None:
                    continue
                state, weights = (
                    self.state[x],
                    as_real(x),
                )  # complex numbers count as two real ones, as in torch's own optimizers
                if not state:
                    state["m"] = torch.zeros_like(weights)
                    state["v"] = torch.full_like(weights, group["tau"] ** 2)
                delta = -as_real(x.grad)
                state["m"].lerp_(delta, 1 - group["beta1"])
                self.square(state["v"], delta.square(), group["beta2"])
                weights.add_(group["lr"] * state["m"] / (state["v"].sqrt() + group["tau"]))
        return loss

    def square(self, v: Tensor, delta2: Tensor, beta2: float) -> None:
        """Updates v in place by Adam's rule."""
        v.lerp_(delta2, 1 - beta2)


class FedYogi(FedAdam):
    """Yogi on the mean change of the weights, otherwise as `FedAdam`.

    Its second moment is `v <- v - (1 - beta2) Delta^2 sign(v - Delta^2)`.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate of the server. Default .01.
        beta1: Decay of the mean change.
        beta2: Decay of its square.
        tau: Degree of adaptivity; smaller is more adaptive.
    """

    def __init__(
        self, params: Any, lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 0.001
    ) -> None:
        super().__init__(params, lr, beta1, beta2, tau)

    def square(self, v: Tensor, delta2: Tensor, beta2: float) -> None:
        """Updates v in place by Yogi's rule."""
        v.sub_((1 - beta2) * delta2 * torch.sign(v - delta2))


class FedAdagrad(FedAdam):
    """Adagrad on the mean change of the weights: `v <- v + Delta^2`, otherwise as `FedAdam`.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate of the server. Default .1.
        beta1: Decay of the mean change. Default 0, as in the paper's experiments.
        tau: Degree of adaptivity; smaller is more adaptive.
    """

    def __init__(self, params: Any, lr: float = 0.1, beta1: float = 0.0, tau: float = 0.001) -> None:
        super().__init__(params, lr, beta1, 0.0, tau)

    def square(self, v: Tensor, delta2: Tensor, beta2: float) -> None:
        """Updates v in place by Adagrad's rule."""
        v.add_(delta2)
