"""`Distillation`: the callback that attaches a teacher to any LightningModule while it is fitted."""

import functools
from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from torch import Tensor, nn
from torch.optim import Optimizer

from lkd.batches import Keys
from lkd.callbacks.example import example_batch, without_loggers
from lkd.callbacks.several import add_up
from lkd.callbacks.taught import is_of_clients, taught
from lkd.distillation import Distiller
from lkd.distillation.adapters import ADAPTERS, LAYERS, SHAPES, layers_of, may_adapt, pairs_of
from lkd.distillation.unmoved import Unmoved
from lkd.finite import require_finite_weights
from lkd.looks import look_back
from lkd.losses import Term
from lkd.packages import overrides
from lkd.teachers import Teacher
from lkd.teachers.cached import cached_in
from lkd.transfers import through_module

SETTINGS = ("weight", "temperature")
"""Attributes of a term that schedules change."""


def running_terms(trainer: Trainer) -> list[tuple[str, Term]]:
    """Returns name and term of every `Distillation` among a Trainer's callbacks; names may come twice."""
    running = [c for c in cast(Any, trainer).callbacks if isinstance(c, Distillation)]
    return [pair for callback in running for pair in callback.distiller.terms.items()]


class Distillation(Callback):
    """Callback that distills a teacher into a module: `loss = alpha * L_student + sum_i w_i * term_i`.

    Under a `lkd.federated.Federation` it attaches to the module which the clients train, each with the same
    teacher; adapters stay with the client.

    The module needs no changes. Works with fp32, bf16 and fp16 precision, gradient accumulation and DDP.
    Every term is logged as `distillation/<term>` and the sum as `distillation/total`; what the module itself
    logs stays as it was, without the terms.

    No trial step is made on a copy of the module: the first real step compares the layers, and a mistake ends
    the fit there, before any weight has changed. Adapters are sized by one forward when the optimizer is
    made. They are sized by the first step instead where the data is a stream or several loaders, or where a
    hook makes what the step reads.

    Args:
        teacher: The frozen teacher.
        terms: Losses from `lkd.losses`, each with its weight and the layers it taps.
        alpha: Weight of the module's own loss, which is the hard-label loss. Default 1. At 0 the module's
            step is not run, only its forward on the first entry of the batch (or on `student_key`), so no
            labels are needed.
        student_input: Layer of the student whose call the teacher repeats, with all positional and keyword
            arguments. `""` is the module's own forward, or the only outermost layer with weights that runs in
            its place. A `training_step` that calls `self.body(x)` and then `self.head(...)` needs `"body"`.
        input_key: Key or index of the batch's entry that the teacher is given instead, such as `"images"`, as
            the student's step leaves it. Several entries are given by name where the teacher's forward has
            parameters of these names, and in this order otherwise.
        label_key: Key or index of the labels in the batch, for terms that need them (DKD).
        student_key: Key or index of the entries that the student's forward is given with `alpha=0`. Default:
            `input_key`.

    Raises:
        TypeError: If the teacher is no `Teacher`, or the terms are no list of terms.
        ValueError: If a term, layer, weight or shape does not fit; before training starts.

    Example:
        >>> from torch import nn
        >>> from lkd.losses import KD
        >>> callback = Distillation(Teacher(nn.Linear(4, 3)), [KD(temperature=2.0, weight=0.9)], alpha=0.1)
    """

    _saved: dict[str, Any] | None = None
    """A checkpoint's adapters, and the shapes and layers that they were made from."""
    _left: dict[str, Any] | None = None
    """Adapters of the last fit, for a later `trainer.save_checkpoint`."""

    def __init__(
        self,
        teacher: Teacher,
        terms: Sequence[Term],
        alpha: float = 1.0,
        student_input: str = "",
        input_key: Keys | None = None,
        label_key: str | int = 1,
        student_key: Keys | None = None,
    ) -> None:
        self.teacher = teacher
        self.distiller = Distiller(
            teacher, terms, alpha, student_input, input_key, label_key, student_key=student_key
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepares the teacher and attaches it."""
        if stage != "fit":
            return
        if trainer.precision not in ("32-true", "64-true", "16-mixed", "bf16-mixed"):
            raise ValueError(
                f"precision={trainer.precision!r} does not go with distillation; use 'bf16-mixed' or such."
            )
        add_up([c for c in cast(Any, trainer).callbacks if isinstance(c, Distillation)])
        self._saved = self._left = None
        self._unmoved = Unmoved()
        self.distiller.thaws = any(isinstance(c, BaseFinetuning) for c in cast(Any, trainer).callbacks)
        students = taught(pl_module)
        for student in students:
            if not any(overrides(student, hook) for hook in ("setup", "configure_model")):
                self.distiller.check_layers(student)  # before a teacher may be trained for minutes
        if trainer.is_global_zero:
            self.teacher.prepare()  # may train it; the other ranks wait and then load the file
        trainer.strategy.barrier("lkd_teacher")
        self.teacher.prepare()
        for cached in cached_in(self.teacher):
            cached.renew()
        for student in students:
            self.distiller.attach(student, ready=functools.partial(self.ready, trainer, student))

    def ready(self, trainer: Trainer, student: LightningModule) -> None:
        """Checks a student whose optimizer is about to be made.

        Makes its adapters if there is data to look at.

        Args:
            trainer: The Trainer of the fit.
            student: The module, or the one that clients of a federation train.

        Raises:
            ValueError: If a layer does not exist, or teacher and student do not fit.
        """
        if self.distiller.adapted(student):
            return
        self.distiller.check_layers(student)
        ours = list(student.parameters())
        shared = {id(p) for p in ours} & {id(p) for p in self.teacher.parameters()}
        if shared and not any(p.requires_grad for p in ours):
            raise ValueError(
                "the teacher is made of the student's own weights, which it has frozen, so that nothing is left to "
                "train; give it a copy: Teacher(copy.deepcopy(module))."
            )
        self.check(student)
        federation = cast(Any, trainer).lightning_module
        if is_of_clients(federation):  # a client's mistake would be a failed client in every round
            batch = through_module(federation.example(), student, trainer)
            self.distiller.adopt(student, self.distiller.look(student, batch) or [], batch)
            return
        if may_adapt(self.distiller.terms.values()):
            batch = example_batch(trainer, student)
            with without_loggers(trainer):
                pairs = None if batch is None else self.distiller.look(student, batch, must=False)
            if pairs is not None:
                self.distiller.adopt(student, pairs)
        learning = may_adapt(term for _, term in running_terms(trainer))
        if self._saved is not None and (may_adapt(self.distiller.terms.values()) or not learning):
            self._restore(student)

    def settings(self) -> list[dict[str, float]]:
        """Returns weight and temperature of every term and inner term, for clients in other processes."""
        return [{n: float(getattr(p, n)) for n in SETTINGS if hasattr(p, n)} for p in self._parts()]

    def take_settings(self, values: list[dict[str, float]]) -> None:
        """Takes over what `settings` of the same callback gave in another process."""
        for part, of_part in zip(self._parts(), values, strict=True):
            for name, value in of_part.items():
                setattr(part, name, value)

    def _parts(self) -> list[Any]:
        terms = self.distiller.terms.values()
        return [part for term in terms for part in term.modules() if isinstance(part, Term)]

    def check(self, pl_module: LightningModule) -> None:
        """Refuses a student that the prepared teacher does not fit.

        This is a hook for subclasses; it accepts all students here.
        """

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detaches the teacher, so that the module is as it was before."""
        self._detach(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detaches also when a run breaks off: Lightning then calls no `teardown`."""
        self._detach(pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Averages the gradients of the adapters over the ranks, since DDP has not wrapped them."""
        if trainer.world_size > 1 and not is_of_clients(pl_module):
            adapters: nn.Module = getattr(pl_module, ADAPTERS, nn.Module())
            for parameter in adapters.parameters():
                if parameter.grad is not None:
                    mean = trainer.strategy.reduce(parameter.grad, reduce_op="mean")
                    parameter.grad.copy_(cast(Tensor, mean))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Notes where the adapters are, in the first steps."""
        if self._has_adapters(pl_module):
            self._unmoved.before(getattr(pl_module, ADAPTERS), optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Warns, after the first steps, if the optimizer does not train the adapters."""
        self._unmoved.after()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the losses of the epoch's steps, and logs how often a `CachedTeacher` knew the answer."""
        look_back(pl_module)
        views = getattr(getattr(trainer, "datamodule", None), "views_per_image", None) or 1
        enough = views + (4 if is_of_clients(pl_module) else 1)  # rounds take other clients
        rates = [
            rate for cached in cached_in(self.teacher) if (rate := cached.epoch_ended(enough)) is not None
        ]
        if rates:
            pl_module.log("distillation/cache_hits", min(rates), sync_dist=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the adapters beside the student's weights, not among them.

        Lightning warns a run that resumes without this callback. Weights that are not finite are not saved.
        """
        require_finite_weights(pl_module)
        checkpoint.setdefault("callbacks", {}).setdefault(self.state_key, {})
        checkpoint.update(self._learned(pl_module) or self._left or {})

    def _has_adapters(self, pl_module: LightningModule) -> bool:
        """Tells whether the module has adapters, and this callback's, not another one's."""
        return bool(len(getattr(pl_module, ADAPTERS, ()))) and may_adapt(self.distiller.terms.values())

    def _learned(self, pl_module: LightningModule) -> dict[str, Any]:
        if not self._has_adapters(pl_module):
            return {}
        adapters: nn.ModuleDict = getattr(pl_module, ADAPTERS)
        layers = layers_of(self.distiller.terms)
        return {ADAPTERS: adapters.state_dict(), SHAPES: self.distiller.shapes, LAYERS: layers}

    def _detach(self, pl_module: LightningModule) -> None:
        if not is_of_clients(pl_module):
            self._left = self._learned(pl_module) or self._left
        self.distiller.detach()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores the adapters when training resumes.

        Raises:
            ValueError: If the run has other adapters than the checkpoint, as the optimizer's state would not
                fit.
        """
        if trainer.state.fn != "fit" or is_of_clients(pl_module):
            return
        self._saved = {key: checkpoint.get(key, {}) for key in (ADAPTERS, SHAPES, LAYERS)}
        if hasattr(
            pl_module, ADAPTERS
        ):  # some strategies read the checkpoint after they have made the optimizer
            self._restore(pl_module)

    def _restore(self, student: LightningModule) -> None:
        """Fills the adapters from the checkpoint, whose shapes make them if nothing else has."""
        assert self._saved is not None
        saved, layers = self._saved[ADAPTERS], layers_of(self.distiller.terms)
        if not self.distiller.adapted(student) and saved:
            self.distiller.adopt(student, pairs_of(self._saved[SHAPES], self.distiller.terms, student.device))
        adapters: nn.Module = getattr(student, ADAPTERS, nn.Module())
        made = adapters.state_dict()
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in made.items()}:
            raise ValueError(
                f"the checkpoint has {_named(saved)} and this run {_named(made)}: resume with the distillation that "
                "it was trained with, or start a new run from its weights (load_from_checkpoint)."
            )
        for name, was in self._saved[LAYERS].items():
            if layers.get(name, was) != was:
                raise ValueError(
                    f"the checkpoint's adapter {name} lies between student_layer={was[0]!r} and teacher_layer={was[1]!r}, and this run's "
                    f"between {layers[name][0]!r} and {layers[name][1]!r}: resume with the layers that it was trained for, or start a new "
                    "run from its weights (load_from_checkpoint)."
                )
        adapters.load_state_dict(saved)


def _named(adapters: dict[str, Tensor]) -> str:
    sizes = [f"{name} {tuple(value.shape)}" for name, value in adapters.items() if value.ndim > 1]
    return f"distillation adapters {', '.join(sizes)}" if adapters else "no distillation adapters"
