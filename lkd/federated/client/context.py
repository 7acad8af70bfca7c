"""A client at work, as the client half of an algorithm sees and changes it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.federated.client.minimize import minimize
from lkd.federated.protocol.client_data import NO_PUBLIC, ClientData, PublicSamples
from lkd.federated.protocol.messages import Config
from lkd.federated.protocol.tensors import Lists, Tensors

if TYPE_CHECKING:
    from lkd.federated.client.training_loop import LocalLoop


SCRATCH = "client_scratch"
"""Attribute of the working module that holds its client's scratch."""
CARRIED = "carried"
"""Name of `ClientContext.carried` in the scratch."""


def scratch_of(module: LightningModule) -> dict[str, Any]:
    """Returns the scratch of the client that a module works for, for a step that has only the module.

    Example:
        >>> scratch_of(LightningModule())
        {}
    """
    found: dict[str, Any] = vars(module).get(SCRATCH, {})
    return found


class ClientView:
    """What a client has for itself, whether it works alone or in a stack.

    Attributes:
        client: The client's data.
        knowledge: What the server sent of any other shape than the weights'.
        reply_tensors: Tensors of any name and shape for the reply.
        memory: Tensors of any name and shape that are kept for the client's next round.
        config: Plain values that the server sent.
        round: Number of the round.
        seed: Seed of all randomness of this client in this round.
    """

    def __init__(
        self,
        config: Config,
        client: ClientData,
        seed: int = 0,
        knowledge: Tensors | None = None,
        memory: Tensors | None = None,
    ) -> None:
        self.config, self.client, self.seed = config, client, seed
        self.knowledge, self.memory = knowledge or {}, memory or {}
        self.reply_tensors: Tensors = {}
        self.round = config.get("round", 0)

    @property
    def public(self) -> PublicSamples:
        """The public data.

        Raises:
            ValueError: If there are none.
        """
        public = self.client.public
        if public is None or not len(public):
            raise ValueError(NO_PUBLIC)
        return public


class ClientContext(ClientView):
    """State of one client in one round: what `ClientView` has, and the client's model.

    Attributes:
        module: The module that trains.
        names: Names of `params` in the module.
        params: The shared trainable parameters `y`, live.
        x: The server's values of `params`.
        received: What the server sent beside x, aligned with `params`.
        state: The client's own state, aligned with `params`; it is kept for the client's next round.
        save_state: Set to True by a method called through `Round.call` if its changes are to be kept.
        planned: Optimizer steps that this client is to make, `tau_i`.
        steps: Optimizer steps made so far; fp16 may skip some.
        scratch: What the algorithm needs only while this client works; `scratch_of` gives it to a step.
        reply_metrics: Numbers for the reply.
        correction: For the algorithm: what it adds to every gradient of this run.
    """

    def __init__(
        self,
        loop: "LocalLoop",
        x: list[Tensor],
        received: Lists,
        state: Lists,
        config: Config,
        client: ClientData,
        seed: int = 0,
        knowledge: Tensors | None = None,
        memory: Tensors | None = None,
    ) -> None:
        super().__init__(config, client, seed, knowledge, memory)
        self.module, self.names = loop.worker.module, loop.worker.shared
        self.params: list[Tensor] = loop.worker.parameters
        self.x, self.received, self.state = x, received, state
        self.scratch: dict[str, Any] = {}
        self.save_state = False
        self.planned, self.steps = config.get("steps", 0), 0
        self.reply_metrics: dict[str, float] = {}
        self.correction: list[Tensor] = []
        self.loop = loop

    @property
    def carried(self) -> Tensors:
        """Tensors that an added loss reads in `training_step`, by name, as `scratch["carried"]`.

        It may put others in their place, but does not change them in place. In a stack they are `(K, ...)`
        here, and in a step those of a single client; one that a step is the first to put there begins at zero
        for clients that have not made it.
        """
        carried: Tensors = self.scratch.setdefault(CARRIED, {})
        return carried

    def tensors(self) -> Tensors:
        """Copies the weights and buffers of the client's model, by their names in its `state_dict`."""
        return copies(self.module, lambda name, tensor: tensor.detach().clone())

    @property
    def members(self) -> Sequence[ClientView]:
        """The clients that work here, each for itself: this one, or all of a stack."""
        return [self]

    def each(self, function: Callable[[], Any]) -> Any:
        """Calls a function of the module, which is the client's model.

        In a stack that is once for all, and tensors of the result are `(K, ...)`.
        """
        return function()

    def minimize(self, batches: Sequence[Iterable[Any]], loss: Callable[[Any], Tensor]) -> None:
        """Makes an optimizer step per batch on another loss than the module's own, see `minimize`.

        Args:
            batches: Those of each of `members`.
            loss: Computes the loss of a batch by the module, which is the client's model.
        """
        (own,) = batches
        minimize(self.module, self.optimizer, own, loss, self.loop.trainer, self.loop.clip)

    def map(self, function: Callable[[Any], Any], batches: Sequence[Iterable[Any]]) -> list[list[Any]]:
        """Calls a function of the module on batches, and returns what it gives, of each of `members`.

        Args:
            function: Uses the module, which is the client's model, on one batch.
            batches: Those of each of `members`.
        """
        (own,) = batches
        return [[function(batch) for batch in own]]

    def train(self, batches: Sequence[Iterator[tuple[bool, Any]]]) -> None:
        """Makes `planned` steps on other batches than the client's own, see `LocalLoop.train`.

        Args:
            batches: Those of each of `members`, each with whether it is the last of its epoch.
        """
        (own,) = batches
        self.loop.train(own, self)

    @property
    def grads(self) -> list[Tensor]:
        """The gradients of `params`, live and dense; a parameter that the loss does not reach has zeros."""
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif p.grad.is_sparse:  # of an embedding, while corrections are dense
                p.grad = p.grad.to_dense()
        return [cast(Tensor, p.grad) for p in self.params]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The client's own optimizer."""
        return self.loop.local_optimizer.optimizer

    @property
    def rates(self) -> list[float | Tensor]:
        """Present learning rate of each of `params`, 0 for frozen ones.

        A rate is a number, or a tensor `(K,)` with the rate of each of K stacked clients.
        """
        rate: dict[int, float | Tensor] = {}
        for group in self.optimizer.param_groups:
            lr = group["lr"]
            each = lr if isinstance(lr, Tensor) and lr.numel() > 1 else float(lr)
            rate |= dict.fromkeys(map(id, group["params"]), each)
        return [rate.get(id(p), 0.0) for p in self.params]

    def scale_rates(self, factor: float) -> None:
        """Multiplies this client's learning rates in this round."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * factor  # a tensor is the next client's, too

    def gradient_at(self, point: list[Tensor]) -> list[Tensor]:
        """Returns the gradient of this step's batches at another point, with the same random draws of torch.

        Weights, buffers and logs stay as they are. A torchmetrics metric that `training_step` updates sees
        the batches twice.
        """
        return self.loop.gradient_at(point)

    def full_gradient_at_x(self) -> list[Tensor]:
        """Returns the gradient of the client's whole training data at x, which costs a pass over the data."""
        return self.loop.full_gradient(self.client.ordered_batches("train"), self.x)


def copies(module: LightningModule, copy: Callable[[str, Tensor], Tensor]) -> Tensors:
    """Copies a module's weights and buffers by their names; one of two names is copied once.

    Args:
        module: The module.
        copy: Copies one, which it is given with its first name.
    """
    made: dict[int, Tensor] = {}
    found: Tensors = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):  # and no extra state
            if id(tensor) not in made:
                made[id(tensor)] = copy(name, tensor)
            found[name] = made[id(tensor)]
    return found


def spread(value: float | Tensor, over: Tensor) -> float | Tensor:
    """Reshapes a value of each client such that it multiplies a tensor of all of them.

    Args:
        value: A number, or `(K,)`.
        over: A tensor of one client, or `(K, ...)` of K of them, stacked.

    Example:
        >>> spread(torch.tensor([1.0, 2.0]), torch.ones(2, 3)) * torch.ones(2, 3)
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
        >>> spread(0.5, torch.ones(3))
        0.5
    """
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    return value.to(over).reshape(-1, *[1] * (over.ndim - 1))
