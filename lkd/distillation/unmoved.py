"""Adapters that an optimizer knows, and does not train."""

import itertools
from collections.abc import Iterable

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

STEPS = 3
"""Steps in which the student moves and the adapters do not, before that is said."""
WITNESSES = 8
"""Number of the student's parameters that are compared, the smallest ones."""


class Unmoved:
    """Watch over the first steps of an optimizer that adapters have joined.

    An optimizer around another one, with parameter groups of its own, takes the adapters in and leaves them to
    an inner one that has never heard of them. Steps in which nothing moves (a rate of 0 at the start of a
    warm-up, one that a scaler skips) tell nothing.

    Example:
        >>> adapter, net = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> optimizer, watch = torch.optim.SGD([*net.parameters(), *adapter.parameters()], lr=0.1), Unmoved()
        >>> adapter(net(torch.ones(1, 1))).sum().backward()
        >>> watch.before(adapter, optimizer)
        >>> _ = optimizer.step()
        >>> watch.after()
        >>> watch.steps
        0
    """

    def __init__(self) -> None:
        self.steps = STEPS
        """Number of steps that are still to be watched."""
        self._kept: tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]] | None = None
        self._optimizer = ""

    def before(self, adapters: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Notes, before a step, what has a gradient.

        Args:
            adapters: The adapters.
            optimizer: The optimizer that is about to make a step.
        """
        if not self.steps:
            return
        ours = {id(p) for p in adapters.parameters()}
        others = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in ours]
        witnesses = itertools.islice(_pulled(sorted(others, key=Tensor.numel)), WITNESSES)
        self._kept = _copied(_pulled(adapters.parameters())), _copied(witnesses)
        self._optimizer = type(optimizer).__name__

    def after(self) -> None:
        """Looks, after the step, at what has moved, and warns if adapters are left behind."""
        if self._kept is None:
            return
        (ours, others), self._kept = self._kept, None
        if _moved(ours):
            self.steps = 0
        elif ours and _moved(others):
            self.steps -= 1
            if not self.steps:
                rank_zero_warn(
                    f"configure_optimizers: the adapters of the distillation have a gradient, but {STEPS} steps of {self._optimizer} have moved "
                    "the student and not them, as an optimizer does that steps on groups copied from another one; give them to the "
                    "inner one, with [*self.parameters(), *self.distillation_adapters.parameters()], or let both share one list "
                    "(self.param_groups = inner.param_groups)."
                )


def _pulled(parameters: Iterable[Tensor]) -> Iterable[Tensor]:
    """Yields the parameters that a gradient other than zero pulls."""
    return (p for p in parameters if p.grad is not None and bool(p.grad.any()))


def _copied(parameters: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(p, p.detach().clone()) for p in parameters]


def _moved(kept: list[tuple[Tensor, Tensor]]) -> bool:
    return any(not torch.equal(now, before) for now, before in kept)
