"""`BoxDistillation`: a detector learns from a teacher's boxes, dense outputs or both, without labels."""

from typing import Any, Literal, cast

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lkd.callbacks.distillation import Distillation
from lkd.distillation import Distiller
from lkd.losses import CWD, DenseDetection, Term
from lkd.teachers import PseudoLabels, Teacher


class BoxDistillation(Distillation):
    """Distils a detector from boxes, dense outputs and features, with or without labels.

    `L = alpha L(truth) + (1 - alpha) (hard L(pseudo) + dense L_dense + feature L_cwd)`.

    `L(...)` is the student's own detection loss. Hard pseudo-labels are the published method (Molo et al.,
    VISAPP 2024) and work between any two detectors; dense targets (sigmoid cross-entropy on class scores,
    localisation distillation on the box distributions, CIoU) need a shared anchor grid, so the teacher then
    runs on the student's own view. With `alpha=0` nobody's labels are looked at.

    Args:
        teacher: A frozen detector.
        alpha: Weight of the loss on the true labels. Default 0: the teacher alone.
        hard: Weight of the loss on pseudo-labels. Default 1.
        dense: Weight of the dense terms. Default 0.
        feature: Weight of channel-wise distillation of the maps that enter the head. Default 0.
        score_threshold: Pseudo-labels of a lower score are dropped. Default .45, as published.
        iou_threshold: IoU of the suppression of doubled pseudo-labels. Default .6, as published.
        soft: Scale each pseudo-label's class target and weight by the teacher's score, so that the student
            learns how sure the teacher is; a low `score_threshold` then does little harm. Default false.
        sees: `"batch"`: the teacher labels every augmented view; `"frame"`: it labels each whole frame once,
            and the boxes are carried into every view of it (needs lkd's detection datamodules).
        temperature: Of the localisation distillation. Default 2.
        student_layer: Layer of the student that returns the raw outputs; `""` is the module's own forward.

    Raises:
        ValueError: If a weight is negative, all are zero, or alpha is not in [0, 1]; before training starts,
            if teacher and student are known to have different numbers of classes.
    """

    def __init__(
        self,
        teacher: Teacher,
        alpha: float = 0.0,
        hard: float = 1.0,
        dense: float = 0.0,
        feature: float = 0.0,
        score_threshold: float = 0.45,
        iou_threshold: float = 0.6,
        soft: bool = False,
        sees: Literal["batch", "frame"] = "batch",
        temperature: float = 2.0,
        student_layer: str = "",
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} must be between 0 and 1; it weights the loss on true labels.")
        if min(hard, dense, feature) < 0 or hard + dense + feature == 0:
            raise ValueError(
                f"hard={hard}, dense={dense}, feature={feature}: give 0 or more, and one above 0."
            )
        terms: list[Term] = []
        if dense > 0:
            weight = (1 - alpha) * dense
            terms.append(DenseDetection(temperature=temperature, weight=weight, student_layer=student_layer))
        if feature > 0:
            maps = f"{student_layer}:feats:*"
            terms.append(CWD(weight=(1 - alpha) * feature, student_layer=maps, teacher_layer=":feats:*"))
        self.teacher = teacher
        self.labels = PseudoLabels(teacher, score_threshold, iou_threshold, sees, soft)
        # With alpha=0 pseudo-labels are computed even at hard=0: the module's step needs targets, and their loss is
        # a useful thing to see; it then does not enter the gradient.
        self.distiller = Distiller(
            teacher,
            terms,
            alpha,
            input_key="images",
            relabel=self.labels,
            relabelled_weight=(1 - alpha) * hard,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds where whole frames come from, then attaches."""
        if stage == "fit" and self.labels.sees == "frame":
            source: Any = getattr(trainer, "datamodule", None)
            if not hasattr(source, "serve_whole_frames"):
                raise ValueError(
                    f"sees='frame' needs a datamodule with serve_whole_frames(), and {type(source).__name__} "
                    "has none; use sees='batch' or one of lkd's detection datamodules."
                )
            self.labels.frames = source.serve_whole_frames()
        super().setup(trainer, pl_module, stage)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detaches; the datamodule serves views again."""
        self._serve_views(trainer)
        super().teardown(trainer, pl_module, stage)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same where a run breaks off."""
        self._serve_views(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _serve_views(self, trainer: Trainer) -> None:
        if self.labels.frames is not None:
            cast(Any, trainer).datamodule.serve_views()
            self.labels.frames = None

    def check(self, pl_module: LightningModule) -> None:
        """The teacher's labels must mean something to the student."""
        theirs, ours = _classes(self.teacher.loaded), _classes(pl_module)
        if None not in (theirs, ours) and theirs != ours:
            raise ValueError(
                f"the teacher has {theirs} classes, the student {ours}: give the teacher a class_map, "
                "such as {2: 0, 5: 0, 7: 0}, that brings its classes to the student's."
            )


def _classes(model: nn.Module) -> int | None:
    """The number of classes, where the model or its hyper-parameters say it."""
    return getattr(model, "num_classes", getattr(model, "hparams", {}).get("num_classes"))
