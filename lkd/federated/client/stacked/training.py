"""Local training of several clients as one tensor program."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from lkd.federated.client.checks import require_descent
from lkd.federated.client.functional_step import functional
from lkd.federated.client.minimize import LONE, OTHER
from lkd.federated.client.single_samples import watching
from lkd.federated.client.stacked.batches import stacks
from lkd.federated.client.stacked.logs import StackedLog
from lkd.federated.client.stacked.optimizer import copy_settings
from lkd.federated.client.stacked.rows import RowPasses
from lkd.federated.client.stacked.step import StackedStep
from lkd.federated.protocol.tensors import Tensors
from lkd.stack_size import stack_of


class StackedLoop(StackedStep):
    """Local training of K clients of one architecture.

    It is to `ClientContext` what `LocalLoop` is for one client. All tensors have a leading dimension K.
    """

    def train(
        self,
        batches: Sequence[Iterator[tuple[bool, Any]]] | RowPasses,
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
        self._numbers = [0] * self.clients
        for made in range(1, context.planned + 1):
            ends = self._next(batches)
            self._rng = self.slot.loop.rng_state()
            self._set(self._gradients(self._own, self.leaves, keeps=True))
            if correct is not None:
                correct(context)
            self._clip()
            copy_settings(own.optimizer, optimizer)
            optimizer.step()
            context.steps += 1
            if scheduler is not None and made % own.frequency == 0:
                scheduler.step()
            self._numbers = [0 if end else n + 1 for n, end in zip(self._numbers, ends, strict=True)]
        copy_settings(own.optimizer, optimizer)
        self._set({})

    def _next(self, batches: Sequence[Iterator[tuple[bool, Any]]] | RowPasses) -> Sequence[bool]:
        """Takes the next batch of each client; returns which are the last of their epoch."""
        if isinstance(batches, RowPasses):
            self.slot.loop.clock.check()
            ends, self._batches = batches.step()
            return ends
        last, given = zip(*(next(each) for each in batches), strict=True)
        self._batches = [self.on_device(batch) for batch in given]
        return last

    def minimize(self, batches: Sequence[Iterable[Any]], loss: Callable[[Any], Tensor]) -> None:
        """Makes an optimizer step per batch on another loss than the module's own, see `client.minimize`.

        Args:
            batches: Those of each client, equally many.
            loss: Computes the loss of a batch by the module.
        """
        module, optimizer = self.slot.module, self.local_optimizer.optimizer
        require_descent(OTHER, optimizer)
        whole, self._numbers = functional(module, loss), [0] * self.clients

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
            return self._dense(self._gradients(self._own, self._at(point)))
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
        self._numbers = [0] * self.clients
        while True:
            given = [next(each, None) for each in passes]
            self._batches = [None if batch is None else self.on_device(batch) for batch in given]
            if all(batch is None for batch in given):
                return [t / samples.to(t).reshape(-1, *[1] * (t.ndim - 1)) for t in total]
            sizes = [0 if batch is None else extract_batch_size(batch) for batch in self._batches]
            weights = torch.tensor(sizes, device=samples.device)
            gradients = self._dense(self._gradients(self._own, self._at(point), keeps=True))
            for t, gradient in zip(total, gradients, strict=True):
                t += gradient * weights.to(t).reshape(-1, *[1] * (t.ndim - 1))
            samples += weights
            self._numbers = [number + 1 for number in self._numbers]

    def _dense(self, gradients: Tensors) -> list[Tensor]:
        """Gradients of the shared weights in their order, zeros where the loss does not reach one."""
        pairs = zip(self.worker.shared, self.worker.parameters, strict=True)
        return [gradients[name] if name in gradients else torch.zeros_like(p) for name, p in pairs]

    def _at(self, point: list[Tensor]) -> Tensors:
        """The leaves, with other values of the shared ones."""
        values = zip(self.worker.shared, point, self.worker.parameters, strict=True)
        return {**self.leaves, **{name: value.expand_as(now).clone() for name, value, now in values}}
