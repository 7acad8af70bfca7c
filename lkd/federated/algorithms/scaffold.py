"""SCAFFOLD: control variates against client drift."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting, require_sgd
from lkd.federated.client.checks import require_descent
from lkd.federated.client.context import ClientContext, spread
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensors import Lists, Tensors, zeros_like

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class SCAFFOLD(Algorithm):
    """Algorithm that corrects each step by the difference of the server's and the client's control variate.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
    arXiv:1910.06378, Algorithm 1: local steps `y <- y - eta (g_i(y) - c_i + c)`; then `c_i+` is the gradient
    at x (option I, one more pass over the data) or `c_i - c + (x - y) / (K eta)` (option II). The server
    takes the mean change of the weights, and `c <- c + (1/N) sum_S (c_i+ - c_i)` over all N registered
    clients. Travels: the weights and c down, their changes up. Under fp16, steps that the scaler skips do not
    count in K.

    Args:
        option: Which new `c_i` is used, 1 or 2, see above.
        weighting: How the weights' changes are averaged. Default: `"uniform"`, as in the paper.

    Raises:
        ValueError: For another option. With option 2 also for local momentum, weight decay, `maximize`,
            clipping, or a schedule over local steps, for which `(x - y) / (K eta)` is not the mean gradient.
    """

    stacks = True

    def __init__(self, option: Literal[1, 2] = 2, weighting: Weighting = "uniform") -> None:
        super().__init__(weighting)
        expect(option=option, among=(1, 2))
        self.option = option

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses all but plain SGD at a constant rate, with which alone option 2 is right."""
        if self.option == 1:
            return
        require_sgd("SCAFFOLD(option=2)", optimizer, weight_decay=False)
        require_descent("SCAFFOLD(option=2)", optimizer)
        if clip is not None or by_step:
            what = f"gradient_clip_val={clip}" if clip is not None else "a scheduler with interval='step'"
            raise ValueError(f"SCAFFOLD(option=2) does not go with {what}; use option=1.")

    def setup(self, x: Tensors) -> None:
        """Sets the server's control variate c to zero."""
        self.state = {"c": zeros_like(x)}

    def begin(self, context: ClientContext) -> None:
        """Computes the correction `c - c_i`, fixed during the round; a new client's `c_i` is zero."""
        context.state.setdefault("c", [torch.zeros_like(p) for p in context.params])
        context.correction = list(torch._foreach_sub(context.received["c"], context.state["c"]))

    def correct(self, context: ClientContext) -> None:
        """Replaces each gradient by `g - c_i + c`."""
        torch._foreach_add_(context.grads, context.correction)

    def finish(self, context: ClientContext) -> Lists:
        """Keeps the new `c_i`, and returns its change."""
        if self.option == 1:
            new = context.full_gradient_at_x()
        elif not context.steps:  # fp16 skipped them all: nothing is known of the gradient
            new = context.state["c"]
        else:
            # (x - y) / (K eta), each parameter with the rate of its group
            new = [x - p.detach() for x, p in zip(context.x, context.params, strict=True)]
            new = [
                n / _nonzero(context.steps * spread(rate, n))
                for n, rate in zip(new, context.rates, strict=True)
            ]
            torch._foreach_sub_(new, context.correction)
        change = torch._foreach_sub(new, context.state["c"])
        context.state["c"] = list(new)
        return {"c": list(change)}

    def round(self, server: "ServerRound") -> Tensors:
        """Returns the mean change of the weights, and updates c by the changes of `c_i` over all clients."""

        def replies() -> Iterator[Reply]:
            for reply in server.train(send=self.state):
                weight = server.weight(reply)  # undoes the mean's weighting, since the variates are summed
                reply.tensors["c"] = {name: change / weight for name, change in reply.tensors["c"].items()}
                yield reply

        mean = server.mean(replies(), "delta", "c")
        share = float(mean["metrics"]["weight"]) / server.population
        torch._foreach_add_(list(self.state["c"].values()), list(mean["c"].values()), alpha=share)
        return mean["delta"]


def _nonzero(divisor: float | Tensor) -> float | Tensor:
    """Replaces 0, the rate of a parameter that has not moved, by 1."""
    return torch.where(divisor == 0, 1.0, divisor) if isinstance(divisor, Tensor) else divisor or 1.0
