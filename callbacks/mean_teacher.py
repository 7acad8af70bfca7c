"""`MeanTeacher`: distills the moving average of a module's own weights into it."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lkd.addresses import find_layer
from lkd.callbacks.distillation import Distillation
from lkd.federated import Federation
from lkd.losses import Consistency, Term
from lkd.teachers import EMATeacher, Teacher

KEY = "mean_teacher"


class MeanTeacher(Distillation):
    """`Distillation` from an exponential moving average of the student itself, `lkd.teachers.EMATeacher`.

    Tarvainen and Valpola: Mean teachers are better role models, NeurIPS 2017, arXiv:1703.01780, for labeled
    batches (with `alpha=0` for unlabeled ones). Teacher and student see the same view of an image here; in
    the paper each sees noise of its own. The average starts when the fit starts, moves after every optimizer
    step, and is kept in checkpoints beside the student, so that a resumed run goes on exactly. It is
    `callback.teacher.loaded`. The callback `EMA` evaluates an average during the run.

    Args:
        terms: Losses from `lkd.losses`, which tap the same layers in both. Default: `Consistency(weight=10)`,
            the authors' final weight for ten classes.
        decay: The final decay, in [0, 1). Default .999.
        alpha: Weight of the module's own loss. Default 1.
        student_input: As in `Distillation`; the teacher is the average of the layer that it names.
        label_key: As in `Distillation`.

    Raises:
        ValueError: For a decay outside its range, or a federation, whose clients start anew every round.

    Example:
        >>> MeanTeacher(decay=0.99).distiller.terms["consistency"].weight
        10.0
    """

    def __init__(
        self,
        terms: Sequence[Term] | None = None,
        decay: float = 0.999,
        alpha: float = 1.0,
        student_input: str = "",
        label_key: str | int = 1,
    ) -> None:
        EMATeacher(nn.Identity(), decay)  # a wrong decay shall show now; the student comes with `setup`
        terms = [Consistency(weight=10.0)] if terms is None else terms
        super().__init__(
            Teacher(nn.Identity()), terms, alpha, student_input=student_input, label_key=label_key
        )
        self.decay = decay
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Attaches the distillation; the teacher is made when all layers of the student are there."""
        if isinstance(pl_module, Federation):
            raise ValueError(
                "MeanTeacher averages one module over its steps, but a federation's clients start anew every round; "
                "distill from a Teacher there."
            )
        self._average: dict[str, Any] | None = None
        super().setup(trainer, pl_module, stage)

    def ready(self, trainer: Trainer, student: LightningModule) -> None:
        """Copies the student to be its own teacher."""
        self.teacher = self.distiller.teacher = EMATeacher(self._followed(student), self.decay)
        super().ready(trainer, student)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up a checkpoint's average, or begins with the weights that the fit starts from."""
        self.average.to(pl_module.device)
        if self._average is None:
            self.average.start(self._followed(pl_module))
        else:
            self.average.restore(self._average)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the count of steps at which training starts."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the average after a step; accumulated batches are one step."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step > self._seen:
            self._seen = trainer.global_step
            self.average.update(self._followed(pl_module))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the average beside the student's weights."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if isinstance(self.teacher, EMATeacher):
            checkpoint[KEY] = self.average.saved()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores the average, or starts it from the weights of a checkpoint without one."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if trainer.state.fn == "fit":
            self._average = checkpoint.get(KEY)

    @property
    def average(self) -> EMATeacher:
        """Teacher that holds the average, once the fit has made it."""
        assert isinstance(self.teacher, EMATeacher)
        return self.teacher

    def _followed(self, pl_module: LightningModule) -> nn.Module:
        return find_layer(pl_module, self.distiller.student_input, "student_input")
