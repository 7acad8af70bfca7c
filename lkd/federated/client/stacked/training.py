"""Local training of several clients as one tensor program."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torch.func import grad, vmap

from lkd.federated.client.functional_step import Step, functional_step
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.stacked.batches import stacks
from lkd.federated.client.stacked.logs import StackedLog
from lkd.federated.client.stacked.optimizer import clip_each, stacked_optimizer
from lkd.federated.protocol.tensors import Tensors


@dataclass
class StackedWorker:
    """The stand-in for a worker, as `ClientContext` knows it: the shared weights of K clients are its parameters."""

    module: Any
    shared: list[str]
    parameters: list[Tensor]


@dataclass
class _Optimizer:
    optimizer: torch.optim.Optimizer


@dataclass
class StackedLoop:
    """Local training of K clients of one architecture.

    It is to `ClientContext` what `LocalLoop` is for one client. All tensors have a leading dimension K.

    Args:
        slot: The architecture.
        tensors: Trainable weights and buffers of the K clients, `(K, ...)`, by name.
        ordered: Gives for each client a pass over its training data in order.
        unreached: Names of weights that the loss does not reach; they have no gradient, as in the loop.
    """

    slot: ModelSlot
    tensors: Tensors
    ordered: Sequence[Callable[[], Iterable[Any]]] = ()
    unreached: set[str] = field(default_factory=set)
    _batches: list[Any] = field(default_factory=list)
    _rng: Tensor | None = None

    def __post_init__(self) -> None:
        worker, module = self.slot.worker, self.slot.module
        trainable = [name for name, p in module.named_parameters() if p.requires_grad]
        self.leaves = {name: self.tensors[name] for name in trainable}
        self.buffers = {name: self.tensors[name] for name in self.tensors if name not in self.leaves}
        self.worker = StackedWorker(module, worker.shared, [self.leaves[name] for name in worker.shared])
        found = {id(worker.tensors[name]): leaf for name, leaf in self.leaves.items()}
        own = self.slot.local_optimizer
        self.local_optimizer = _Optimizer(stacked_optimizer(own.optimizer, found))
        if own.by_step and own.scheduler is not None:
            own.scheduler.optimizer = self.local_optimizer.optimizer
        self.clients = len(next(iter(self.leaves.values())))
        self.log = StackedLog(self.clients, worker.log)
        self._step: Step = functional_step(module, worker.log)

    def train(
        self,
        batches: Sequence[Iterator[tuple[bool, Any]]],
        context: Any,
        correct: Callable[[Any], None] | None,
    ) -> None:
        """Makes `context.planned` optimizer steps with each client.

        Args:
            batches: Batches without end of each client, each with whether it is the last of its epoch.
            context: The clients' context.
            correct: Changes `context.grads` before each step.
        """
        own, clip = self.slot.local_optimizer, self.slot.loop.clip
        optimizer = self.local_optimizer.optimizer
        scheduler = own.scheduler if own.by_step else None
        self.slot.module.train()
        for made in range(1, context.planned + 1):
            self._batches = [self.slot.loop.on_device(next(each)[1]) for each in batches]
            self._rng = torch.get_rng_state()
            for name, gradient in self._gradients(self.leaves, 0, logs=True).items():
                self.leaves[name].grad = None if name in self.unreached else gradient
            if correct is not None:
                correct(context)
            if clip is not None:
                clip_each([leaf.grad for leaf in self.leaves.values() if leaf.grad is not None], clip)
            optimizer.step()
            context.steps += 1
            if scheduler is not None and made % own.frequency == 0:
                scheduler.step()
        for leaf in self.leaves.values():
            leaf.grad = None

    def gradient_at(self, point: list[Tensor]) -> list[Tensor]:
        """Computes the gradients of this step's batches at another point, with the same random draws."""
        after = torch.get_rng_state()
        if self._rng is not None:
            torch.set_rng_state(self._rng)
        try:
            found = self._gradients(self._at(point), 0, logs=False)
        finally:
            torch.set_rng_state(after)
        return [found[name] for name in self.worker.shared]

    def full_gradient(self, batches: Any, point: list[Tensor]) -> list[Tensor]:
        """Computes each client's mean gradient over all of its training data at a point.

        Args:
            batches: Not used: each client has its own, `ordered`.
            point: The weights, `(K, ...)` or those of all clients.
        """
        self.slot.module.train()
        total: list[Tensor] = []
        samples = [0] * self.clients
        passes = [iter(each()) for each in self.ordered]
        while True:
            given = [next(each, None) for each in passes]
            self._batches = [None if batch is None else self.slot.loop.on_device(batch) for batch in given]
            if not any(batch is not None for batch in self._batches):
                return [t / torch.tensor(samples).to(t).reshape(-1, *[1] * (t.ndim - 1)) for t in total]
            sizes = [0 if b is None else extract_batch_size(b) for b in self._batches]
            found = self._gradients(self._at(point), 0, logs=False)
            weights = torch.tensor(sizes)
            part = [
                found[name] * weights.to(found[name]).reshape(-1, *[1] * (found[name].ndim - 1))
                for name in self.worker.shared
            ]
            total = part if not total else list(torch._foreach_add(total, part))
            samples = [a + b for a, b in zip(samples, sizes, strict=True)]

    def _at(self, point: list[Tensor]) -> Tensors:
        """The leaves, with other values of the shared ones."""
        values = zip(self.worker.shared, point, self.worker.parameters, strict=True)
        return {**self.leaves, **{name: value.expand_as(now) for name, value, now in values}}

    def _gradients(self, leaves: Tensors, dim: int, logs: bool) -> Tensors:
        """The gradients of the present batches by name; with `logs` also what the step logs and its buffers."""
        there = [i for i, batch in enumerate(self._batches) if batch is not None]
        groups = list(stacks([self._batches[i] for i in there]))
        step = vmap(grad(self._step, has_aux=True), in_dims=(dim, dim, 0), randomness="different")
        whole = len(groups) == 1 and len(there) == self.clients
        found = {} if whole else {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        for places, batch in groups:
            rows = None if whole else torch.tensor([there[place] for place in places])
            some = leaves if rows is None else {name: leaf[rows] for name, leaf in leaves.items()}
            buffers = self.buffers if rows is None else {n: b[rows] for n, b in self.buffers.items()}
            gradients, (logged, after) = step(some, buffers, batch)
            for name, gradient in gradients.items():
                if rows is None:
                    found[name] = gradient
                else:
                    found[name][rows] = gradient
            if logs:
                self.log.add(logged, rows)
                for name, buffer in after.items():
                    if rows is None:
                        self.buffers[name].copy_(buffer)
                    else:
                        self.buffers[name][rows] = buffer
        return found
