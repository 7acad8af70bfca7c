"""Local training of several clients as one tensor program."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from lkd.federated.client.context import CARRIED, SCRATCH, scratch_of
from lkd.federated.client.functional_step import Step, functional, functional_step
from lkd.federated.client.local_optimizer import LocalOptimizer
from lkd.federated.client.minimize import LONE
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.single_samples import watching
from lkd.federated.client.stacked.batches import stacks
from lkd.federated.client.stacked.logs import StackedLog
from lkd.federated.client.stacked.optimizer import clip_each, copy_settings, stacked_optimizer
from lkd.federated.protocol.tensors import Tensors
from lkd.stack_size import stack_of


@dataclass
class StackedWorker:
    """The stand-in for a worker in a `ClientContext`; its parameters are the shared weights of K clients."""

    module: Any
    shared: list[str]
    parameters: list[Tensor]


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
        worker, module, alone = self.slot.worker, self.slot.module, self.slot.loop
        self.trainer, self.accumulate, self.clip = alone.trainer, alone.accumulate, alone.clip
        self.on_device = alone.on_device
        trainable = [name for name, p in module.named_parameters() if p.requires_grad]
        self.leaves = {name: self.tensors[name] for name in trainable}
        self.buffers = {name: self.tensors[name] for name in self.tensors if name not in self.leaves}
        self.worker = StackedWorker(module, worker.shared, [self.leaves[name] for name in worker.shared])
        found = {id(worker.tensors[name]): leaf for name, leaf in self.leaves.items()}
        self.local_optimizer = StackedOptimizer(self.slot.local_optimizer, found)
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
            context: The clients' context, whose algorithm has begun.
            correct: Changes `context.grads` before each step.
        """
        own = self.slot.local_optimizer
        optimizer = self.local_optimizer.optimizer
        scheduler = own.scheduler if own.by_step else None
        copy_settings(
            optimizer, own.optimizer
        )  # rates that the algorithm has scaled; the module asks for these
        self.slot.module.train()
        for made in range(1, context.planned + 1):
            self._batches = [self.on_device(next(each)[1]) for each in batches]
            self._index, self._rng = made - 1, self.slot.loop.rng_state()
            self._set(self._gradients(self._now(), self.leaves, keeps=True))
            if correct is not None:
                correct(context)
            self._clip()
            copy_settings(own.optimizer, optimizer)
            optimizer.step()
            context.steps += 1
            if scheduler is not None and made % own.frequency == 0:
                scheduler.step()
        copy_settings(own.optimizer, optimizer)
        self._set({})

    def minimize(self, batches: Sequence[Iterable[Any]], loss: Callable[[Any], Tensor]) -> None:
        """Makes an optimizer step per batch on another loss than the module's own, see `client.minimize`.

        Args:
            batches: Those of each client, equally many.
            loss: Computes the loss of a batch by the module.
        """
        module, optimizer = self.slot.module, self.local_optimizer.optimizer
        whole = functional(module, loss)

        def step(params: Tensors, buffers: Tensors, batch: Any) -> tuple[Tensor, tuple[Tensors, Tensors]]:
            value, after = whole(params, buffers, batch)
            return value, ({}, after)

        module.train()
        with watching(module, LONE):
            for given in zip(*batches, strict=True):
                self._batches = list(given)
                self._set(self._gradients(step, self.leaves, keeps=True))
                self._clip()
                optimizer.step()
        self._set({})

    def each(self, function: Callable[[], Any]) -> Any:
        """Calls a function of the module once for all clients; it changes no buffers.

        Args:
            function: Uses the module, which is then each client's model.

        Returns:
            What it returns, with tensors `(K, ...)`.
        """
        whole = functional(self.slot.module, function)
        with stack_of(self.clients):
            found, _ = vmap(whole, randomness="different")(self.leaves, self.buffers)
        return found

    def map(self, function: Callable[[Any], Any], batches: Sequence[Iterable[Any]]) -> list[list[Any]]:
        """Calls a function of the module on each client's batches; it changes no buffers.

        Args:
            function: Uses the module, which is then the client's model, on one batch.
            batches: Those of each client.

        Returns:
            What it returns, for each client and batch.
        """
        stacked = vmap(functional(self.slot.module, function), randomness="different")
        passes, results = [iter(each) for each in batches], [list[Any]() for _ in batches]
        while True:
            given = [next(each, None) for each in passes]
            there = [k for k, batch in enumerate(given) if batch is not None]
            if not there:
                return results
            for places, batch in stacks([given[k] for k in there]):
                rows = [there[place] for place in places]
                leaves, buffers = ({n: t[rows] for n, t in ts.items()} for ts in (self.leaves, self.buffers))
                with stack_of(len(rows)):
                    found, _ = stacked(leaves, buffers, batch)
                flat, tree = tree_flatten(found)
                for k, values in zip(rows, zip(*(t.unbind() for t in flat), strict=True), strict=True):
                    results[k].append(tree_unflatten(list(values), tree))

    def gradient_at(self, point: list[Tensor]) -> list[Tensor]:
        """Computes the gradients of this step's batches at another point, with the same random draws."""
        loop = self.slot.loop
        after = loop.rng_state()
        loop.set_rng(self._rng)
        try:
            return self._dense(self._gradients(self._now(), self._at(point)))
        finally:
            loop.set_rng(after)

    def full_gradient(self, batches: Any, point: list[Tensor]) -> list[Tensor]:
        """Computes each client's mean gradient over all of its training data at a point.

        Args:
            batches: Not used: each client has its own, `ordered`.
            point: The weights, `(K, ...)` or those of all clients.
        """
        self.slot.module.train()
        log, buffers = self.log, {name: buffer.clone() for name, buffer in self.buffers.items()}
        self.log = StackedLog(self.clients, self.slot.worker.log)
        try:
            return self._mean_gradient(point)
        finally:
            self.log, self.buffers = log, buffers

    def _mean_gradient(self, point: list[Tensor]) -> list[Tensor]:
        total = [torch.zeros_like(p) for p in self.worker.parameters]
        samples = torch.zeros(self.clients, device=self.slot.module.device)
        passes = [iter(each()) for each in self.ordered]
        self._index = 0
        while True:
            given = [next(each, None) for each in passes]
            self._batches = [None if batch is None else self.on_device(batch) for batch in given]
            if all(batch is None for batch in given):
                return [t / samples.to(t).reshape(-1, *[1] * (t.ndim - 1)) for t in total]
            sizes = [0 if batch is None else extract_batch_size(batch) for batch in self._batches]
            weights = torch.tensor(sizes, device=samples.device)
            gradients = self._dense(self._gradients(self._now(), self._at(point), keeps=True))
            for t, gradient in zip(total, gradients, strict=True):
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

    def _now(self) -> Step:
        """The module's own step, with the number of the present batches."""
        return functools.partial(self._step, batch_idx=self._index)

    def _set(self, gradients: Tensors) -> None:
        for name, leaf in self.leaves.items():
            leaf.grad = gradients.get(name)

    def _clip(self) -> None:
        if self.clip is not None:
            clip_each([leaf.grad for leaf in self.leaves.values() if leaf.grad is not None], self.clip)

    def _gradients(self, step: Step, leaves: Tensors, keeps: bool = False) -> Tensors:
        """The gradients of the present batches by name, without those of weights that the loss does not reach.

        Args:
            step: From parameters, buffers and a batch to the loss, the logs and new buffers.
            leaves: The weights.
            keeps: Whether to keep what the step logs, and the buffers that it changes.

        Raises:
            ValueError: If it reaches a weight with some batches of the stack, and not with others.
        """
        there = [i for i, batch in enumerate(self._batches) if batch is not None]
        groups = list(stacks([self._batches[i] for i in there]))
        whole = len(groups) == 1 and len(there) == self.clients
        stacked = vmap(self._carrying(step), randomness="different")
        found: list[tuple[Tensor | None, Tensors]] = []
        for places, batch in groups:
            rows = None if whole else torch.tensor([there[place] for place in places])
            found.append((rows, self._of_rows(stacked, leaves, batch, rows, keeps)))
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

    @property
    def _scratch(self) -> dict[str, Any]:
        return scratch_of(self.slot.module)

    def _carrying(self, step: Step) -> Step:
        """A step that also takes what a client carries, and returns what it has put in its place."""

        def carrying(params: Tensors, buffers: Tensors, carried: Tensors, batch: Any) -> Any:
            attributes, scratch = vars(self.slot.module), self._scratch
            inside = {**scratch, CARRIED: dict(carried)}
            attributes[SCRATCH] = inside
            try:
                loss, (logs, after) = step(params, buffers, batch)
            finally:
                attributes[SCRATCH] = scratch
            new = {name: t for name, t in inside[CARRIED].items() if t is not carried.get(name)}
            return loss, (logs, after, new)

        return carrying

    def _carry(self, new: Tensors, rows: Tensor | None) -> None:
        """Keeps what clients carry on to their next step."""
        carried = self._scratch.setdefault(CARRIED, {})
        for name, value in new.items():
            zeros = value.new_zeros(self.clients, *value.shape[1:])
            whole = carried.get(name, zeros).clone()  # it may be one tensor that is shown K times
            whole[slice(None) if rows is None else rows] = value.detach()
            carried[name] = whole

    def _of_rows(self, step: Any, leaves: Tensors, batch: Any, rows: Tensor | None, keeps: bool) -> Tensors:
        """The gradients of the clients of one shape of batches."""
        some = {
            n: (leaf if rows is None else leaf[rows]).detach().requires_grad_() for n, leaf in leaves.items()
        }
        versions = {name: leaf._version for name, leaf in some.items()}
        buffers = self.buffers if rows is None else {n: b[rows] for n, b in self.buffers.items()}
        clients = self.clients if rows is None else len(rows)
        carried = {n: t if rows is None else t[rows] for n, t in self._scratch.get(CARRIED, {}).items()}
        with self.trainer.precision_plugin.forward_context(), torch.enable_grad(), stack_of(clients):
            losses, (logged, after, new) = step(some, buffers, carried, batch)
            # gradients of stacked weights, and not vmap of a gradient: so it is known which weights a loss does not reach
            gradients = torch.autograd.grad(losses.sum(), list(some.values()), allow_unused=True)
        if keeps:
            self.log.add(logged, rows)
            self._carry(new, rows)
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
