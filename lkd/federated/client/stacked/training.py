"""Local training of several clients as one tensor program."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torch.func import vmap

from lkd.federated.client.functional_step import functional_step
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.stacked.batches import stacks
from lkd.federated.client.stacked.logs import StackedLog
from lkd.federated.client.stacked.looks import StackedLooks
from lkd.federated.client.stacked.optimizer import clip_each, copy_settings, stacked_optimizer
from lkd.federated.protocol.tensors import Tensors
from lkd.stack_size import stack_of


@dataclass
class StackedWorker:
    """The stand-in for a worker in a `ClientContext`; its parameters are the shared weights of K clients."""

    module: Any
    shared: list[str]
    parameters: list[Tensor]


@dataclass
class StackedOptimizer:
    """The stand-in for a `LocalOptimizer`."""

    optimizer: torch.optim.Optimizer


@dataclass
class StackedLoop:
    """Local training of K clients of one architecture.

    It is to `ClientContext` what `LocalLoop` is for one client. All tensors have a leading dimension K.

    Args:
        slot: The architecture.
        tensors: Trainable weights and buffers of the K clients, `(K, ...)`, by name.
        ordered: Gives for each client a pass over its training data in order.
    """

    slot: ModelSlot
    tensors: Tensors
    ordered: Sequence[Callable[[], Iterable[Any]]] = ()
    _batches: list[Any] = field(default_factory=list)
    _index: int = 0
    _rng: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        worker, module = self.slot.worker, self.slot.module
        trainable = [name for name, p in module.named_parameters() if p.requires_grad]
        self.leaves = {name: self.tensors[name] for name in trainable}
        self.buffers = {name: self.tensors[name] for name in self.tensors if name not in self.leaves}
        self.worker = StackedWorker(module, worker.shared, [self.leaves[name] for name in worker.shared])
        found = {id(worker.tensors[name]): leaf for name, leaf in self.leaves.items()}
        own = self.slot.local_optimizer.optimizer
        self.local_optimizer = StackedOptimizer(stacked_optimizer(own, found))
        self.clients = len(next(iter(self.leaves.values())))
        self.log = StackedLog(self.clients, worker.log)
        self.looks = StackedLooks(self.clients)
        self._step = self.looks.told(functional_step(module, worker.log))

    def train(
        self,
        batches: Sequence[Iterator[tuple[bool, Any]]],
        context: Any,
        correct: Callable[[Any], None] | None,
    ) -> None:
        """Makes `context.planned` optimizer steps with each client.

        Args:
            batches: Batches without end of each client, each with whether it is the last of its epoch.
            context: The clients' context, whose algorithm has begun.
            correct: Changes `context.grads` before each step.
        """
        own, clip = self.slot.local_optimizer, self.slot.loop.clip
        optimizer = self.local_optimizer.optimizer
        scheduler = own.scheduler if own.by_step else None
        copy_settings(
            optimizer, own.optimizer
        )  # rates that the algorithm has scaled; the module asks for these
        self.slot.module.train()
        for made in range(1, context.planned + 1):
            self._batches = [self.slot.loop.on_device(next(each)[1]) for each in batches]
            self._index, self._rng = made - 1, self.slot.loop.rng_state()
            gradients = self._gradients(self.leaves, logs=True)
            for name, leaf in self.leaves.items():
                leaf.grad = gradients.get(name)
            if correct is not None:
                correct(context)
            if clip is not None:
                clip_each([leaf.grad for leaf in self.leaves.values() if leaf.grad is not None], clip)
            copy_settings(own.optimizer, optimizer)
            optimizer.step()
            context.steps += 1
            if scheduler is not None and made % own.frequency == 0:
                scheduler.step()
        copy_settings(own.optimizer, optimizer)
        self.looks.look()
        for leaf in self.leaves.values():
            leaf.grad = None

    def gradient_at(self, point: list[Tensor]) -> list[Tensor]:
        """Computes the gradients of this step's batches at another point, with the same random draws."""
        loop = self.slot.loop
        after = loop.rng_state()
        loop.set_rng(self._rng)
        try:
            return self._dense(self._gradients(self._at(point), logs=False))
        finally:
            loop.set_rng(after)

    def full_gradient(self, batches: Any, point: list[Tensor]) -> list[Tensor]:
        """Computes each client's mean gradient over all of its training data at a point.

        Args:
            batches: Not used: each client has its own, `ordered`.
            point: The weights, `(K, ...)` or those of all clients.
        """
        self.slot.module.train()
        total = [torch.zeros_like(p) for p in self.worker.parameters]
        samples = torch.zeros(self.clients, device=total[0].device if total else "cpu")
        passes = [iter(each()) for each in self.ordered]
        self._index = 0
        while True:
            given = [next(each, None) for each in passes]
            self._batches = [None if batch is None else self.slot.loop.on_device(batch) for batch in given]
            if all(batch is None for batch in given):
                return [t / samples.to(t).reshape(-1, *[1] * (t.ndim - 1)) for t in total]
            sizes = [0 if batch is None else extract_batch_size(batch) for batch in self._batches]
            weights = torch.tensor(sizes, device=samples.device)
            for t, gradient in zip(
                total, self._dense(self._gradients(self._at(point), logs=False)), strict=True
            ):
                t += gradient * weights.to(t).reshape(-1, *[1] * (t.ndim - 1))
            samples += weights
            self._index += 1

    def _dense(self, gradients: Tensors) -> list[Tensor]:
        """Gradients of the shared weights in their order, zeros where the loss does not reach one."""
        pairs = zip(self.worker.shared, self.worker.parameters, strict=True)
        return [gradients[name] if name in gradients else torch.zeros_like(p) for name, p in pairs]

    def _at(self, point: list[Tensor]) -> Tensors:
        """The leaves, with other values of the shared ones."""
        values = zip(self.worker.shared, point, self.worker.parameters, strict=True)
        return {**self.leaves, **{name: value.expand_as(now).clone() for name, value, now in values}}

    def _gradients(self, leaves: Tensors, logs: bool) -> Tensors:
        """The gradients of the present batches by name, without those of weights that the loss does not reach.

        Args:
            leaves: The weights.
            logs: Whether to keep what the step logs, and the buffers that it changes.

        Raises:
            ValueError: If it reaches a weight with some batches of the stack, and not with others.
        """
        there = [i for i, batch in enumerate(self._batches) if batch is not None]
        groups = list(stacks([self._batches[i] for i in there]))
        whole = len(groups) == 1 and len(there) == self.clients
        step = vmap(functools.partial(self._step, batch_idx=self._index), randomness="different")
        found: list[tuple[Tensor | None, Tensors]] = []
        for places, batch in groups:
            rows = None if whole else torch.tensor([there[place] for place in places])
            found.append((rows, self._of_rows(step, leaves, batch, rows, logs)))
        reached = found[0][1].keys()
        if any(gradients.keys() != reached for _, gradients in found):
            raise ValueError("batches of other shapes reach other weights")
        if whole:
            return found[0][1]
        total = {name: torch.zeros_like(leaves[name]) for name in reached}
        for rows, gradients in found:
            for name, gradient in gradients.items():
                total[name][rows] = gradient
        return total

    def _of_rows(self, step: Any, leaves: Tensors, batch: Any, rows: Tensor | None, logs: bool) -> Tensors:
        """The gradients of the clients of one shape of batches."""
        some = {
            n: (leaf if rows is None else leaf[rows]).detach().requires_grad_() for n, leaf in leaves.items()
        }
        versions = {name: leaf._version for name, leaf in some.items()}
        buffers = self.buffers if rows is None else {n: b[rows] for n, b in self.buffers.items()}
        clients = self.clients if rows is None else len(rows)
        with torch.enable_grad(), stack_of(clients):
            losses, (logged, after, values) = step(some, buffers, batch)
            # gradients of stacked weights, and not vmap of a gradient: so it is known which weights a loss does not reach
            gradients = torch.autograd.grad(losses.sum(), list(some.values()), allow_unused=True)
        self.looks.add(values, rows)
        if logs:
            self.log.add(logged, rows)
            where = slice(None) if rows is None else rows
            for name, buffer in after.items():
                self.buffers[name][where] = buffer.detach()
            for name, leaf in some.items():
                if rows is not None and leaf._version != versions[name]:  # a step that clamps its weights
                    leaves[name][rows] = leaf.detach()
        return _apart({n: g for n, g in zip(some, gradients, strict=True) if g is not None})


def _apart(gradients: Tensors) -> Tensors:
    """Gives each gradient memory of its own; those of weights that are added share it, and corrections edit it."""
    seen: set[int] = set()
    found: Tensors = {}
    for name, gradient in gradients.items():
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        found[name] = dense.clone() if dense.data_ptr() in seen else dense
        seen.add(dense.data_ptr())
    return found
