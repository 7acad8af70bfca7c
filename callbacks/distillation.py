"""`Distillation`: the callback that attaches a teacher to any LightningModule while it is fitted."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lkd.distillation import ADAPTERS, Distiller
from lkd.federated import Federation
from lkd.losses import Term
from lkd.teachers import Teacher


def running_terms(trainer: Trainer) -> list[tuple[str, Term]]:
    """Name and term of every `Distillation` among a Trainer's callbacks; two callbacks may have the same name."""
    running = [c for c in cast(Any, trainer).callbacks if isinstance(c, Distillation)]
    return [pair for callback in running for pair in callback.distiller.terms.items()]


class Distillation(Callback):
    """Distils a teacher into the module that a Trainer fits: `loss = alpha * L_student + sum_i w_i * term_i`.

    Under a `lkd.federated.Federation` that is the module which its clients train, each with the same teacher;
    adapters stay with the client.

    The module needs to know nothing of it. Works with fp32, bf16 and fp16 precision, gradient accumulation
    and DDP. Every term is logged as `distillation/<term>`, the sum as `distillation/total`; what the module
    itself logs stays what it was, without the terms. Before the first step, one batch is run through a
    throw-away copy of the student, which sizes the adapters and reports mistakes.

    Args:
        teacher: The frozen teacher.
        terms: Losses from `lkd.losses`, each with its weight and the layers it taps.
        alpha: Weight of the module's own loss, which is the hard-label loss. Default 1. At 0 the module's step is
            not run, only its forward on the first entry of the batch (or on `student_key`), so no labels are needed.
        student_input: Layer of the student whose input the teacher is given; `""` is the module's own
            forward, for modules whose `training_step` calls `self(x)`. One that calls `self.body(x)` and then
            `self.head(...)` needs `"body"`.
        input_key: Key of the batch whose tensor the teacher is given instead, such as `"images"`.
        label_key: Key or index of the labels in the batch, for terms that need them (DKD).
        student_key: With `alpha=0`, key of the batch whose tensor the student's forward is given. Default: `input_key`.

    Raises:
        TypeError: If the teacher is no `Teacher`, or the terms are no list of terms.
        ValueError: If a term, layer, weight or shape does not fit; before training starts.

    Example:
        >>> from torch import nn
        >>> from lkd.losses import KD
        >>> callback = Distillation(Teacher(nn.Linear(4, 3)), [KD(temperature=2.0, weight=0.9)], alpha=0.1)
    """

    def __init__(
        self,
        teacher: Teacher,
        terms: Sequence[Term],
        alpha: float = 1.0,
        student_input: str = "",
        input_key: str | None = None,
        label_key: str | int = 1,
        student_key: str | None = None,
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
        if is_overridden("configure_model", pl_module):
            pl_module.configure_model()  # Lightning calls it later, and again, as its documentation says
        students = pl_module.students if isinstance(pl_module, Federation) else [pl_module]
        for student in students:
            self.distiller.check_layers(student)  # before a teacher may be trained for minutes
        if trainer.is_global_zero:
            self.teacher.prepare()  # may train it; the other ranks wait and then load the file
        trainer.strategy.barrier("lkd_teacher")
        self.teacher.prepare()
        ours = [p for student in students for p in student.parameters()]
        shared = {id(p) for p in ours} & {id(p) for p in self.teacher.parameters()}
        if shared and not any(p.requires_grad for p in ours):
            raise ValueError(
                "the teacher is made of the student's own weights, which it has frozen, so that nothing is left to "
                "train; give it a copy: Teacher(copy.deepcopy(module))."
            )
        for student in students:
            self.check(student)
        trainer.fit_loop.setup_data()  # the fit would do it a moment later
        with isolate_rng():  # looking at a batch must not change what training draws
            example = next(iter(cast(Iterable[Any], trainer.train_dataloader)))
            if isinstance(pl_module, Federation):
                example = pl_module.example(example)
            for student in students:
                self.distiller.attach(student, trainer.strategy.batch_to_device(example, student.device))

    def check(self, pl_module: LightningModule) -> None:
        """For subclasses: refuses a student that the prepared teacher does not fit. Default: takes all."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detaches, so that the module is as it was before."""
        self.distiller.detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detaches too where a run breaks off: Lightning then calls no `teardown`."""
        self.distiller.detach()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the adapters beside the student's weights, not among them."""
        if hasattr(pl_module, ADAPTERS):
            checkpoint[ADAPTERS] = getattr(pl_module, ADAPTERS).state_dict()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores the adapters when training resumes.

        Raises:
            ValueError: If the run has other adapters than the checkpoint, as the optimizer's state would not fit.
        """
        if trainer.state.fn != "fit":
            return
        adapters: nn.Module = getattr(pl_module, ADAPTERS, nn.Module())
        saved, made = checkpoint.get(ADAPTERS, {}), adapters.state_dict()
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in made.items()}:
            raise ValueError(
                f"the checkpoint has {_named(saved)} and this run {_named(made)}: resume with the distillation that "
                "it was trained with, or start a new run from its weights (load_from_checkpoint)."
            )
        adapters.load_state_dict(saved)


def _named(adapters: dict[str, Tensor]) -> str:
    sizes = [f"{name} {tuple(value.shape)}" for name, value in adapters.items() if value.ndim > 1]
    return f"distillation adapters {', '.join(sizes)}" if adapters else "no distillation adapters"
