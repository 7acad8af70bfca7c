"""The base of an algorithm: one half runs at the client, the other at the server."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import torch
from lightning.pytorch import LightningModule

from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Groups, Lists, Tensors
from lkd.federated.server.weighting import Weighting as Weighting

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


Method = TypeVar("Method", bound=Callable[..., Any])


def stackable(method: Method) -> Method:
    """Marks a method of the client half that works on stacked clients, where its class says `stacks = True`.

    Such a method handles what each client has for itself by `context.members`, and its model by
    `context.each` and `context.minimize`.
    """
    method.stacks = True  # type: ignore[attr-defined]
    return method


class Algorithm:
    """Federated averaging (FedAvg), the base of all other algorithms.

    A subclass overrides what it changes: at the client `begin`, `correct` (once per optimizer step) and
    `finish`; at the server `round`, which is straight-line code over the verbs of a `ServerRound`. What the
    server must remember goes into `state`, which every checkpoint holds.

    Args:
        weighting: How replies are averaged: by the clients' numbers of samples (`"samples"`), all alike
            (`"uniform"`), or by the samples that have a modality (`"present"`, see
            `lkd.federated.server.weighting.Weighing`).

    Raises:
        ValueError: For an unknown weighting, or `"present"` where the algorithm does not support it.
    """

    keeps_full_gradient = False
    """Whether a client keeps the gradient of `ServerRound.gradient` for its training in the same round."""
    aggregates_weights = True
    """Whether weights leave the clients."""
    trains_server_model: bool | list[str] = False
    """Which layers of the server's model it trains though no weights leave the clients; True for all."""
    supports_multiple_models = False
    """Whether clients may have different architectures."""
    needs_public_data = False
    """Whether it exchanges knowledge about public data, which then have to be given."""
    needs_validation_data = False
    """Whether every client needs validation data of its own."""
    pools_data = False
    """Whether it trains on the data of several clients at once, which so have to be in one place."""
    stacks = False
    """Whether the client half works on stacked tensors `(K, ...)` of K clients. A subclass says so again; see also `stackable`."""
    sends_one_change = False
    """Whether all that leaves a client in a round is one change of its weights, and `round` returns their mean. A subclass says so again."""
    supports_modality_weighting = False
    """Whether it supports `weighting="present"`, which needs replies that are plain changes of weights."""

    def __init__(self, weighting: Weighting = "samples") -> None:
        if weighting not in get_args(Weighting):
            others = (
                "'samples', 'uniform' or 'present'"
                if self.supports_modality_weighting
                else "'samples' or 'uniform'"
            )
            raise ValueError(f"weighting={weighting!r} must be {others}.")
        if weighting == "present" and not self.supports_modality_weighting:
            raise ValueError(
                f"weighting='present' is for FedAvg and FedProx: what {type(self).__name__} computes from the clients' weights holds "
                "for one weight a client; take 'samples' or 'uniform'."
            )
        self.weighting = weighting
        self.state: Groups = {}

    def setup(self, x: Tensors) -> None:
        """Creates the server's state for the weights `x`; a checkpoint may replace it afterwards."""

    def check(self, optimizer: torch.optim.Optimizer, clip: float | None, by_step: bool) -> None:
        """Refuses a local optimizer, clipping or step-wise schedule for which the algorithm is not defined.

        Args:
            optimizer: The clients' optimizer.
            clip: Largest norm of a step's gradient; None for no clipping.
            by_step: Whether the clients' scheduler counts local steps.

        Raises:
            ValueError: If one of them does not fit; the message names what to use instead.
        """

    def attach(self, module: LightningModule, example: Any) -> None:
        """Changes the module that trains, such as its loss; called once, before the first round.

        Args:
            module: The worker's copy of the client's module.
            example: A training batch.
        """

    def begin(self, context: ClientContext) -> None:
        """Runs at the client before its first step."""

    def correct(self, context: ClientContext) -> None:
        """Changes `context.grads` at the client before every optimizer step."""

    def finish(self, context: ClientContext) -> Lists:
        """Runs at the client after its last step; returns what goes up beside the change of the weights."""
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Runs at the server; returns the change of the weights, which the server's optimizer applies."""
        return server.mean(server.train())["delta"]

    @property
    def attaches(self) -> bool:
        """Whether it changes the module that trains."""
        return type(self).attach is not Algorithm.attach

    def correction(self) -> Callable[[ClientContext], None] | None:
        """Returns `correct`, or None where it is not overridden, so that a step then costs nothing more."""
        return None if type(self).correct is Algorithm.correct else self.correct


def require_sgd(
    who: str, optimizer: torch.optim.Optimizer, momentum: bool = False, weight_decay: bool = True
) -> None:
    """Refuses any local optimizer but SGD.

    Args:
        who: The algorithm, for the message.
        optimizer: The clients' optimizer.
        momentum: Whether momentum (heavy ball, without dampening) is allowed.
        weight_decay: Whether weight decay is allowed.

    Raises:
        ValueError: If the optimizer is another one, or has an option that is not allowed.
    """
    kind = type(optimizer).__name__
    for group in optimizer.param_groups:
        wrong = [
            f"{name}={group.get(name)}"
            for name, fine in (
                ("momentum", momentum),
                ("weight_decay", weight_decay),
                ("dampening", False),
                ("nesterov", False),
            )
            if group.get(name) and not fine
        ]
        if not isinstance(optimizer, torch.optim.SGD) or wrong:
            found = f"{kind}({', '.join(wrong)})" if wrong else kind
            allowed = " and ".join(["SGD", *(["momentum"] if momentum else [])])
            raise ValueError(
                f"{who} is defined for {'plain SGD' if not momentum else allowed} at the clients, not for {found}: use "
                f"torch.optim.SGD(lr=...) there; momentum at the server is `server_optimizer`'s."
            )
