"""One step of a client by itself and in a stack of one: the proof that its module means the same in both."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lkd.federated.client.batches import passes
from lkd.federated.client.context import ClientContext
from lkd.federated.client.host import Host
from lkd.federated.client.stacked.member import Member
from lkd.federated.client.stacked.stack import Stack
from lkd.federated.client.traces import switches
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Tensors, all_finite
from lkd.metrics.flops import uncounted
from lkd.unchanged import unchanged

TOLERANCE = 1e-4
"""Largest difference of two gradients, as a share of their norm. Rounding is a hundredth of it, or less."""


class StackTrial:
    """A step that a client makes by itself, and in stacks of itself alone; it leaves no trace on the module.

    Code may ask what holds for a module's own weights, and not for those of a stack: whether a tensor has
    `requires_grad`, which object a weight is, what hooks a layer has. Then the gradients differ.

    Args:
        host: The client side of the federation.
        member: The client.
        begins: Whether the algorithm begins, as it does before training.
    """

    def __init__(self, host: Host, member: Member, begins: bool) -> None:
        config = {**member.message.config, "steps": 1}
        self.host, self.begins = host, begins
        self.member = replace(member, message=replace(member.message, config=config))
        self.slot = host.slots[host.kind_of(member.data.id)]

    def why_not(self) -> str | None:
        """Returns why the client cannot be stacked; None if nothing was found."""
        module, name = self.slot.module, type(self.slot.module).__name__
        with switches(), uncounted(), _exact(module), self.host.verbs.apart(module), unchanged(module):
            batch = next(passes(self.member.data, self.member.seed))
            alone, draws = self._alone(batch, 0)
            if not all_finite(alone.values()):
                return None  # nothing can be told from it
            if draws:
                return f"a step of {name} draws from the generator of Python or NumPy, which a stack has once for all"
            other, _ = self._alone(batch, 1)
            try:
                same = self._stacked(batch, 1)
                # no draws, or always the same ones, which a stack makes for each client
                if _alike(alone, other):
                    same += self._stacked(batch, 2)
            except Exception as error:
                return f"a stack of them fails ({f'{type(error).__name__}: {error}'.splitlines()[0]})"
        if all(_alike(alone, each) for each in same):
            return None
        return f"a step of {name} gives another gradient in a stack than by itself"

    def _alone(self, batch: Any, seed: int) -> tuple[Tensors, bool]:
        """Returns the gradient, and whether the step draws from other generators than torch's."""
        slot, context = self.host.verbs.enter(self.member.data, self.member.message)
        slot.local_optimizer.begin_client()
        if self.begins:
            self.host.algorithm.begin(context)
        found: Tensors = {}

        def note(_: ClientContext) -> None:
            parameters = slot.module.named_parameters()
            found.update({n: p.grad.to_dense().clone() for n, p in parameters if p.grad is not None})

        before = self._seeded(seed)
        slot.loop.train(iter([batch]), context, note)
        return found, _draws() != before

    def _stacked(self, batch: Any, clients: int) -> list[Tensors]:
        """Returns the gradient of each client of a stack of equal ones."""
        stack = Stack(self.host, [self.member] * clients)
        stack.loop.local_optimizer.begin_client()
        if self.begins:
            self.host.algorithm.begin(stack.context)
        found: list[Tensors] = []

        def note(_: ClientContext) -> None:
            leaves = {n: leaf.grad for n, leaf in stack.loop.leaves.items() if leaf.grad is not None}
            found.extend({n: grad[k].clone() for n, grad in leaves.items()} for k in range(clients))

        self._seeded(0)
        batches: list[Iterator[tuple[bool, Any]]] = [iter([batch]) for _ in range(clients)]
        stack.loop.train(batches, stack.context, note)
        return found

    def _seeded(self, seed: int) -> Any:
        seed_everything(derive(self.host.seed, seed), self.slot.module.device)
        return _draws()


def _exact(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Leaves out TF32, whose rounding is larger than what is looked for, and differs in grouped convolutions."""
    cuda = any(p.is_cuda for p in module.parameters())
    return torch.backends.cudnn.flags(allow_tf32=False) if cuda else contextlib.nullcontext()


def _draws() -> Any:
    """The states of Python's and NumPy's generators, in a form that compares."""
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, np.asarray(keys).tobytes(), rest


def _alike(one: Tensors, other: Tensors) -> bool:
    """Tells whether two gradients are the same but for rounding; a weight without one has zeros."""
    names = [*dict.fromkeys([*one, *other])]

    def flat(tensors: Tensors, like: Tensors) -> Tensor:
        found = [tensors[n] if n in tensors else torch.zeros_like(like[n]) for n in names]
        return torch.cat([t.detach().flatten().to(torch.complex128).cpu() for t in found] or [torch.zeros(0)])

    a, b = flat(one, other), flat(other, one)
    return bool((a - b).norm() <= TOLERANCE * torch.maximum(a.norm(), b.norm()))
