"""A client's optimizer over the weights of many clients at once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lkd.federated.client.local_optimizer import LocalOptimizer


def stacked_optimizer(
    optimizer: torch.optim.Optimizer, leaves: Mapping[int, Tensor]
) -> torch.optim.Optimizer:
    """Makes an optimizer of the same kind and the same hyperparameters over stacked tensors.

    Every step of an elementwise optimizer treats each number by itself, so that K clients in one tensor
    `(K, ...)` are stepped as K optimizers would step them.

    Args:
        optimizer: The optimizer over a module's parameters.
        leaves: The stacked tensor for each of them, by the parameter's `id`.

    Example:
        >>> weight, stacked = torch.nn.Parameter(torch.zeros(2)), torch.zeros(3, 2)
        >>> made = stacked_optimizer(torch.optim.SGD([weight], lr=0.5), {id(weight): stacked})
        >>> stacked.grad = torch.ones(3, 2)
        >>> made.step()
        >>> stacked[2].tolist()
        [-0.5, -0.5]
    """
    groups = [
        {**group, "params": [leaves[id(p)] for p in group["params"] if id(p) in leaves]}
        for group in optimizer.param_groups
    ]
    made = type(optimizer)(groups)  # type: ignore[call-arg]  # each group brings all hyperparameters
    made.defaults = dict(optimizer.defaults)  # from which Adagrad begins the state of a weight
    made.state.clear()
    return made


class StackedOptimizer:
    """The stand-in for a `LocalOptimizer`.

    Args:
        own: The optimizer of one client, whose settings are those of all.
        leaves: The stacked weights, by the `id` of the module's.
    """

    def __init__(self, own: LocalOptimizer, leaves: dict[int, Tensor]) -> None:
        self._own, self._leaves = own, leaves
        self.optimizer = stacked_optimizer(own.optimizer, leaves)

    def begin_client(self) -> None:
        """Empties the optimizer's state, and sets the hyperparameters of this round."""
        self._own.begin_client()
        self.optimizer = stacked_optimizer(self._own.optimizer, self._leaves)


def copy_settings(source: torch.optim.Optimizer, target: torch.optim.Optimizer) -> None:
    """Copies the hyperparameters of all groups, such as rates that a scheduler has changed.

    Args:
        source: The optimizer that has them.
        target: One with as many groups.
    """
    for old, new in zip(source.param_groups, target.param_groups, strict=True):
        new.update({key: value for key, value in old.items() if key != "params"})


def clip_each(grads: list[Tensor], clip: float) -> None:
    """Scales the gradients of each of K clients to a norm of at most `clip`, as `clip_grad_norm_` does for one.

    Args:
        grads: Tensors `(K, ...)`, which are changed in place.
        clip: Largest norm.

    Example:
        >>> grads = [torch.tensor([[3.0, 4.0], [0.3, 0.4]])]
        >>> clip_each(grads, 1.0)
        >>> grads[0].norm(dim=1).tolist()  # doctest: +ELLIPSIS
        [0.99..., 0.5]
    """
    squares = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in grads]).sum(0)
    factor = (clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.reshape(-1, *[1] * (grad.ndim - 1)))
