"""FedShuffle: unbiased averaging with random reshuffling, and its momentum variance reduction."""

from typing import TYPE_CHECKING, Literal

import torch

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, require_sgd
from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FedShuffle(Algorithm):
    """Local epochs over reshuffled data, with steps in inverse proportion to their number.

    Horvath et al., "FedShuffle: Recipes for Better Use of Local Work in Federated Learning", TMLR 2022,
    arXiv:2204.13169, Algorithm 1: client i steps with `eta / tau_i`, and
    `x <- x + sum_{i in S} (p_i / pi_i) Delta_i`, `pi_i` being its chance to be in the cohort. The weights are
    **not** normalized to one: that would move the fixed point. Travels what FedAvg's does.

    Args:
        rate: What the clients' learning rate stands for: `"round"`, the sum of a client's steps, as in the
            paper's algorithm; or `"step"`, the rate of the client with the most steps,
            `eta max_j tau_j / tau_i`, as in the authors' code, so that rates tuned for FedAvg stay in use.

    Raises:
        ValueError: For another rate.
    """

    stacks = True

    def __init__(self, rate: Literal["round", "step"] = "round") -> None:
        super().__init__()
        expect(rate=rate, among=("round", "step"))
        self.rate = rate

    def begin(self, context: ClientContext) -> None:
        """Scales the rates down for clients that make more steps."""
        context.scale_rates(context.config["most"] / context.planned)

    def weight(self, server: "ServerRound", reply: Reply) -> float:
        """Returns the weight of a reply, `p_i / pi_i`."""
        client = server.client(reply)
        return client.share / client.probability

    def _config(self, server: "ServerRound") -> dict[str, float]:
        """Returns the most steps of a client of this round, or 1 for the rate of a round, as a message."""
        return {"most": float(max(server.steps.values(), default=1)) if self.rate == "step" else 1.0}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains, and returns the unbiased sum of the changes."""
        replies = server.train(config=self._config(server))
        return server.sum(replies, weight=lambda reply: self.weight(server, reply))["delta"]


class FedShuffleMVR(FedShuffle):
    """FedShuffle with momentum variance reduction.

    The same paper, Section 5. Local directions are `v = g_i(y; b) + a (m - g_i(x; b))`, both gradients of the
    same batch. At the server
    `m <- sum_S (p_i / pi_i) grad f_i(x) + a (m - sum_S (p_i / pi_i) grad f_i(x_prev))`, with gradients of the
    clients' whole data. Here m is formed before the round's training, from gradients at the x that clients
    start from, as the same equations allow. The authors' notebook (`toy_experiments.ipynb`) forms it after
    the training, so its clients use the momentum of the round before, and none in the first round. Travels in
    addition: m and the former weights down, two gradients up.

    Args:
        a: Share of the momentum, 0 to 1. At 0 this is FedShuffle.
        rate: What the clients' learning rate stands for, see `FedShuffle`.

    Raises:
        ValueError: For an `a` out of [0, 1], another rate, or clients that do not use plain SGD.
    """

    stacks = True

    def __init__(self, a: float = 0.9, rate: Literal["round", "step"] = "round") -> None:
        super().__init__(rate)
        expect(a=a, ge=0, le=1)
        self.a = a

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses all but plain SGD, since the server keeps the momentum."""
        require_sgd(type(self).__name__, optimizer)

    def setup(self, x: Tensors) -> None:
        """Starts without a momentum, which the first round forms."""
        self.state = {}

    def correct(self, context: ClientContext) -> None:
        """Replaces each gradient by `g(y) + a (m - g(x))`."""
        there = context.gradient_at(context.x)
        torch._foreach_add_(context.grads, torch._foreach_sub(context.received["m"], there), alpha=self.a)

    def round(self, server: "ServerRound") -> Tensors:
        """Forms the momentum at x, then trains."""
        here = self._gradient(server, None)
        if self.state:
            before = self._gradient(server, self.state["x"])
            m = {n: g + self.a * (self.state["m"][n] - before[n]) for n, g in here.items()}
        else:
            m = here
        self.state = {"m": m, "x": {name: value.clone() for name, value in server.x.items()}}
        replies = server.train(send={"m": m}, config=self._config(server))
        return server.sum(replies, weight=lambda reply: self.weight(server, reply))["delta"]

    def _gradient(self, server: "ServerRound", at: Tensors | None) -> Tensors:
        gradients = server.sum(
            server.gradient(at), "gradient", weight=lambda reply: self.weight(server, reply)
        )
        return gradients["gradient"]
