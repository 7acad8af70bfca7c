"""One step of several clients: their models as stacked tensors, and the gradients of their batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from lkd.federated.client.context import CARRIED, SCRATCH, scratch_of
from lkd.federated.client.functional_step import Step, functional_step, reads_index
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.stacked.batches import stacks
from lkd.federated.client.stacked.linear import StackedLinear
from lkd.federated.client.stacked.logs import StackedLog
from lkd.federated.client.stacked.looks import StackedLooks
from lkd.federated.client.stacked.optimizer import StackedOptimizer, clip_each
from lkd.federated.client.stacked.rows import Rows
from lkd.federated.protocol.tensors import Tensors, laid_like
from lkd.stack_size import stack_of


@dataclass
class StackedWorker:
    """The stand-in for a worker in a `ClientContext`; its parameters are the shared weights of K clients."""

    module: Any
    shared: list[str]
    parameters: list[Tensor]


@dataclass
class StackedStep:
    """The models of K clients of one architecture, and what one step of all of them takes.

    Args:
        slot: The architecture.
        tensors: Trainable weights and buffers of the K clients, `(K, ...)`, by name.
        ordered: Gives for each client a pass over its training data in order.
    """

    slot: ModelSlot
    tensors: Tensors
    ordered: Sequence[Callable[[], Iterable[Any]]] = ()
    _batches: list[Any] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)  # of each client's batch in its epoch
    _index: int = 0  # that of the batches in a step
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
        self.log, self.looks = StackedLog(self.clients, worker.log), StackedLooks(self.clients)
        self._step: Step = functional_step(module, worker.log)
        self._numbers, self._reads_index = [0] * self.clients, reads_index(module.training_step)

    def _own(self, params: Tensors, buffers: Tensors, batch: Any) -> Any:
        """The module's own step, with the number of the present batches."""
        return self._step(params, buffers, batch, batch_idx=self._index)

    def _groups(self, there: list[int]) -> Iterator[tuple[list[int], Any]]:
        """Stacks the batches of these clients that have the same shapes, and numbers if the step reads them."""
        alike: dict[int, list[int]] = {}
        for client in there:
            alike.setdefault(self._numbers[client] if self._reads_index else 0, []).append(client)
        for clients in alike.values():
            if isinstance(self._batches, Rows):
                yield from self._row_groups(self._batches, clients)
                continue
            for places, batch in stacks([self._batches[client] for client in clients]):
                yield [clients[place] for place in places], batch

    @staticmethod
    def _row_groups(rows: Rows, clients: list[int]) -> Iterator[tuple[list[int], Any]]:
        sizes: dict[int, list[int]] = {}
        for client in clients:
            sizes.setdefault(len(rows[client]), []).append(client)
        for each in sizes.values():
            yield each, rows.gathered(each)

    def _set(self, gradients: Tensors) -> None:
        for name, leaf in self.leaves.items():
            gradient = gradients.get(name)
            leaf.grad = None if gradient is None else laid_like(gradient, leaf)

    def _clip(self) -> None:
        if self.clip is not None:
            groups = self.local_optimizer.optimizer.param_groups
            clip_each([p.grad for group in groups for p in group["params"] if p.grad is not None], self.clip)

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
        groups = list(self._groups(there))
        whole = len(groups) == 1 and len(there) == self.clients
        stacked = vmap(self._carrying(step), randomness="different")
        found: list[tuple[Tensor | None, Tensors]] = []
        for clients, batch in groups:
            rows = None if whole else torch.tensor(clients)
            self._index = self._numbers[clients[0]]
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

    def _carrying(self, step: Step) -> Callable[..., Any]:
        """A step that also takes what a client carries, and returns what it has put in its place and looks at."""
        told = self.looks.told(step)

        def carrying(params: Tensors, buffers: Tensors, carried: Tensors, batch: Any) -> Any:
            attributes, scratch = vars(self.slot.module), self._scratch
            inside = {**scratch, CARRIED: dict(carried)}
            attributes[SCRATCH] = inside
            try:
                loss, (logs, after, values) = told(params, buffers, batch)
            finally:
                attributes[SCRATCH] = scratch
            new = {name: t for name, t in inside[CARRIED].items() if t is not carried.get(name)}
            return loss, (logs, after, new, values)

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
            with StackedLinear():
                losses, (logged, after, new, values) = step(some, buffers, carried, batch)
            # gradients of stacked weights, and not vmap of a gradient: so it is known which weights a loss does not reach
            gradients = torch.autograd.grad(losses.sum(), list(some.values()), allow_unused=True)
        self.looks.add(values, rows)
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
