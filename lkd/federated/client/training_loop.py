"""The lean loop of local training: the module's own `training_step`, without a Trainer."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.data import extract_batch_size
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lkd.federated.client.clock import Clock
from lkd.federated.client.context import ClientContext
from lkd.federated.client.evaluation import evaluate
from lkd.federated.client.local_optimizer import LocalOptimizer
from lkd.federated.client.parts import begin_training
from lkd.federated.client.worker import Worker
from lkd.federated.protocol.client_data import Part
from lkd.federated.protocol.messages import RefusalError
from lkd.federated.protocol.runtime import Runtime
from lkd.looks import forget, look_back
from lkd.packages import overrides
from lkd.transfers import check_hooks

HOOKS = (
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_zero_grad",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_train_end",
)
"""Hooks of the client's module that local training calls."""

SKIPS = (
    "{}.on_train_batch_start returns -1, by which a Trainer skips the rest of an epoch; a client makes all steps that its "
    "round plans. Return None there, and give a client fewer steps by LocalTraining(steps=...) or leave batches out by a "
    "training_step that returns None."
)
"""Refusal of a hook that would leave out steps, which algorithms count on."""


class LocalLoop(Runtime):
    """Loop that trains the worker's module, client after client.

    Args:
        worker: Holds the module.
        local_optimizer: Its optimizer and scheduler.
        trainer: The federation's Trainer, whose device and precision the clients use.
        accumulate: Batches per optimizer step.
        clip: Largest norm of a step's gradient; None for no clipping.

    Raises:
        ValueError: If the module's `training_step` takes an iterator, or its hooks conflict with those of the
            data.
    """

    def __init__(
        self,
        worker: Worker,
        local_optimizer: LocalOptimizer,
        trainer: Trainer,
        accumulate: int = 1,
        clip: float | None = None,
    ) -> None:
        module = worker.module
        arguments = inspect.signature(module.training_step).parameters
        if "dataloader_iter" in arguments:
            raise ValueError(
                f"{type(module).__name__}.training_step(dataloader_iter): a client steps over batches."
            )
        check_hooks(module, trainer)
        super().__init__(module, trainer, accumulate, clip)
        self.worker, self.local_optimizer = worker, local_optimizer
        self.clock = Clock()  # replaced by the host's
        self._with_index = len(arguments) > 1
        self._context = trainer.precision_plugin.train_step_context
        found = {name: getattr(module, name) for name in HOOKS if overrides(module, name)}
        self.hooks = {name: hook for name, hook in found.items() if not hasattr(hook, "for_trainers")}
        self._batches: list[tuple[Any, int]] = []  # of the present step
        self._now: Any = None  # the present batch
        self._rng: list[Tensor] = []  # torch's generators before the present step
        self._without_loss, self._trained = 0, 0
        worker.serve("optimizers", lambda: local_optimizer.optimizer)
        worker.serve("lr_schedulers", lambda: local_optimizer.scheduler)

    def train(
        self,
        batches: Iterator[tuple[bool, Any]],
        context: ClientContext,
        correct: Callable[[ClientContext], None] | None = None,
    ) -> None:
        """Makes `context.planned` optimizer steps.

        Args:
            batches: Batches without end, each with whether it is the last of its epoch.
            context: The client at work.
            correct: Changes `context.grads` before each step: after unscaling and accumulation, before
                clipping.
        """
        module, optimizer, hook = self.worker.module, self.local_optimizer.optimizer, self._hook
        log = self.worker.log
        scheduler = self.local_optimizer.scheduler if self.local_optimizer.by_step else None
        # each client has its own: a scale that depends on other clients would not be reproducible
        scales = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        scaler = torch.amp.GradScaler(module.device.type) if scales else None
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        begin_training(module)
        forget(module)  # checks that a failed client has left undone
        hook("on_train_start")
        index, ends, self._without_loss, trained_on = 0, True, 0, 0
        for made in range(1, context.planned + 1):
            if ends:
                hook("on_train_epoch_start")
                index = 0
            index, ends = self._gather(batches, index)
            trained_on += len(self._batches)
            if correct is not None:
                self._rng = self.rng_state()
            output: Any = None
            losses = 0
            for place, (batch, number) in enumerate(self._batches):
                if place:
                    hook("on_train_batch_end", output, *self._batches[place - 1])
                log.at(batch)
                if hook("on_train_batch_start", batch, number) == -1:
                    raise RefusalError(SKIPS.format(type(module).__name__))
                output, loss = self._forward(batch, number)
                output = self._outputs(output, loss)
                if loss is None:
                    self._without_loss += 1
                else:
                    losses += 1
                    hook("on_before_backward", loss)
                    (loss if scaler is None else scaler.scale(loss)).backward()
                    hook("on_after_backward")
            if scaler is not None and losses:  # the scaler refuses to unscale where there is no gradient
                scaler.unscale_(optimizer)
            if correct is not None:
                correct(context)
            hook("on_before_optimizer_step", optimizer)
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(trained, self.clip)
            context.steps += self._step(optimizer, scaler if losses else None)
            if scheduler is not None and made % self.local_optimizer.frequency == 0:
                scheduler.step()
            hook("on_train_batch_end", output, *self._batches[-1])
            hook("on_before_zero_grad", optimizer)
            for parameter in trained:  # what zero_grad does, without its bookkeeping for the profiler
                parameter.grad = None
            self.clock.check()
            log.at(None)
            if ends:
                look_back(module)  # the next batch is the first of an epoch, which begins the looks anew
                hook("on_train_epoch_end")
        hook("on_train_end")
        look_back(module)
        self._batches, self._trained = [], trained_on

    def idle(self) -> dict[str, float]:
        """Counts the batches of the last training for which `training_step` gave no loss.

        Returns:
            `without_loss` and `batches`; empty if every batch gave a loss.
        """
        counts = {"without_loss": float(self._without_loss), "batches": float(self._trained)}
        return counts if self._without_loss else {}

    def _hook(self, name: str, *args: Any) -> Any:
        return self.hooks[name](*args) if name in self.hooks else None

    def _gather(self, batches: Iterator[tuple[bool, Any]], index: int) -> tuple[int, bool]:
        """Takes the batches of one optimizer step, from number `index` on; at the end of an epoch they may be fewer."""
        self._batches, ends = [], False
        while not ends and len(self._batches) < self.accumulate:
            ends, batch = next(batches)
            self._batches.append((self.on_device(batch), index))
            index += 1
        return index, ends

    def on_device(self, batch: Any) -> Any:
        """Moves a batch to the module's device, in its precision.

        Every batch of private and public data passes here, so the client's time limit is checked here.
        """
        self.clock.check()
        return super().on_device(batch)

    def _forward(self, batch: Any, index: int) -> tuple[Any, Tensor | None]:
        step = self.worker.module.training_step
        self._now = batch
        output: Any
        with self._context():
            output = step(batch, index) if self._with_index else step(batch)
        loss = output.get("loss") if isinstance(output, dict) else output
        if loss is not None and len(self._batches) > 1:
            loss = loss / len(self._batches)
        return output, loss

    def _outputs(self, output: Any, loss: Tensor | None) -> dict[str, Any]:
        """Turns a step's output into the dict that hooks are given, as a Trainer does."""
        if loss is None or "on_train_batch_end" not in self.hooks:
            return {}
        return {**(output if isinstance(output, dict) else {}), "loss": loss.detach().clone()}

    def samples(self) -> int | None:
        """Returns the number of samples of the present batch; None where the batch does not tell."""
        try:
            return extract_batch_size(self._now)
        except MisconfigurationException:
            return None

    def _step(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> bool:
        """Makes an optimizer step; returns whether the scaler of fp16 did not skip it."""
        if scaler is None:
            optimizer.step()
            return True
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        return scaler.get_scale() >= before

    def gradient_at(self, point: list[Tensor]) -> list[Tensor]:
        """Returns the gradient of the present step's batches at another point, with the same draws."""
        after = self.rng_state()
        self.set_rng(self._rng)
        try:
            with self.worker.at(point):
                losses = [self._forward(batch, number)[1] for batch, number in self._batches]
                return self._gradient([loss for loss in losses if loss is not None])
        finally:
            self.set_rng(after)

    def _gradient(self, losses: list[Tensor]) -> list[Tensor]:
        parameters = self.worker.parameters
        if not losses:
            return [torch.zeros_like(p) for p in parameters]
        found = torch.autograd.grad(torch.stack(losses).sum(), parameters, allow_unused=True)
        dense = [g.to_dense() if g is not None and g.is_sparse else g for g in found]
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, dense, strict=True)]

    def full_gradient(self, batches: Iterable[Any], point: list[Tensor]) -> list[Tensor]:
        """Computes the mean gradient over all samples of these batches at a point; leaves no trace."""
        total = [torch.zeros_like(p) for p in self.worker.parameters]
        samples = 0
        self.worker.module.train()
        with torch.enable_grad(), self.worker.at(point):
            for index, given in enumerate(batches):
                batch = self.on_device(given)
                size = extract_batch_size(batch)
                self._batches = [(batch, index)]
                _, loss = self._forward(batch, index)
                torch._foreach_add_(total, self._gradient([] if loss is None else [loss]), alpha=size)
                samples += size
        return [gradient / samples for gradient in total]

    def evaluate(self, batches: Iterable[Any], part: Part) -> dict[str, float]:
        """Runs the module's validation (`"val"`) or test steps on batches, and returns their logs."""
        worker = self.worker
        return evaluate(worker.module, batches, part, self.trainer, worker.log, self.on_device)

    def rng_state(self) -> list[Tensor]:
        """Returns the states of torch's generators, of the CPU and the module's device."""
        device = self.worker.module.device
        return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])

    def set_rng(self, states: list[Tensor]) -> None:
        """Puts the states back that `rng_state` gave."""
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.worker.module.device)
