"""`BoxDistillation`: a detector learns from a teacher's boxes, dense outputs or both, without labels."""

from typing import Any, Literal, cast

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lkd.callbacks.distillation import Distillation
from lkd.callbacks.taught import taught
from lkd.checks import expect
from lkd.distillation import Distiller
from lkd.losses import CWD, DenseDetection, Term
from lkd.models.per_camera import PerCamera
from lkd.modules import Detector
from lkd.teachers import PseudoLabels, Teacher
from lkd.teachers.classes import require_one_list, understand


class BoxDistillation(Distillation):
    """Callback that distills a detector from boxes, dense outputs and features, with or without labels.

    `L = alpha L(truth) + (1 - alpha) (hard L(pseudo) + dense L_dense + feature L_cwd)`.

    `L(...)` is the student's own detection loss. Hard pseudo-labels are the published method (Molo et al.,
    VISAPP 2024). They work between any two detectors, whose classes are matched by name. Dense targets
    (sigmoid cross-entropy on class scores, localization distillation on the box distributions, CIoU) need a
    shared anchor grid (YOLO's), so the teacher then runs on the student's own view. With `alpha=0` no labels
    are looked at.

    Args:
        teacher: A frozen detector.
        alpha: Weight of the loss on the true labels. Default 0: the teacher alone.
        hard: Weight of the loss on pseudo-labels. Default 1.
        dense: Weight of the dense terms. Default 0.
        feature: Weight of channel-wise distillation of the maps that enter the head. Default 0.
        score_threshold: Pseudo-labels of a lower score are dropped. Default .45, as published.
        iou_threshold: IoU above which doubled pseudo-labels are suppressed. Default .6, as published.
        soft: Scale each pseudo-label's class target and weight by the teacher's score, so that the student
            learns how sure the teacher is; a low `score_threshold` then does little harm. Default false.
        sees: `"batch"`: the teacher labels every augmented view; `"frame"`: it labels each whole frame once,
            and the boxes are carried into every view of it (needs lkd's detection datamodules).
        temperature: Temperature of the localization distillation. Default 2.
        student_layer: Layer of the student that returns the raw outputs; `""` is the module's own forward.

    Raises:
        ValueError: If a weight is negative, all are zero, or alpha is not in [0, 1]; before training starts,
            if teacher and student are known to have different classes and `Teacher(classes=...)` does not
            match them; if dense terms or soft labels are asked of a model that cannot give them.
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
        expect(alpha=alpha, ge=0, le=1, why="it weights the loss on true labels")
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
        self.teacher, self.dense = teacher, dense
        self.labels = PseudoLabels(teacher, score_threshold, iou_threshold, sees, soft)
        # With alpha=0 pseudo-labels are computed even at hard=0: the module's step needs targets, and their
        # loss is a useful thing to see; it then does not enter the gradient.
        self.distiller = Distiller(
            teacher,
            terms,
            alpha,
            input_key="images",
            relabel=self.labels,
            relabeled_weight=(1 - alpha) * hard,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds where whole frames come from, then attaches."""
        if stage == "fit":
            students = taught(pl_module)
            require_one_list(students)
            for student in students:
                self._check_student(student)
        if stage == "fit" and self.labels.sees == "frame":
            source: Any = getattr(trainer, "datamodule", None)
            if not hasattr(source, "serve_whole_frames"):
                raise ValueError(
                    f"sees='frame' needs a datamodule with serve_whole_frames(), and {type(source).__name__} "
                    "has none; use sees='batch' or one of lkd's detection datamodules."
                )
            own = {"of_student": True} if self.teacher.sees_student_view else {}
            self.labels.frames = source.serve_whole_frames(**own)
        super().setup(trainer, pl_module, stage)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detaches the teacher, and lets the datamodule serve views again."""
        self._serve_views(trainer)
        super().teardown(trainer, pl_module, stage)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detaches also when a run breaks off."""
        self._serve_views(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _serve_views(self, trainer: Trainer) -> None:
        if self.labels.frames is not None:
            cast(Any, trainer).datamodule.serve_views()
            self.labels.frames = None

    def check(self, pl_module: LightningModule) -> None:
        """Checks that the teacher's classes fit the student, and its raw outputs where terms need them."""
        understand(self.teacher, pl_module)
        network = getattr(self.teacher.loaded, "network", None)
        if isinstance(network, PerCamera) and len(network.copies) > 1:
            self.distiller.input_key = ["images", "cameras"]
        self._require_grid(self.teacher.loaded, "teacher")

    def _check_student(self, student: LightningModule) -> None:
        """Checks what can be checked before a teacher is trained."""
        self._require_grid(student, "student")
        network = _network(student)
        if self.labels.soft and network is not student and not getattr(network, "weighs_scores", False):
            raise ValueError(
                f"soft=True: the loss of {type(network).__name__} does not weigh boxes by their scores (it does not say "
                "weighs_scores = True); take hard pseudo-labels, soft=False."
            )

    def _require_grid(self, model: nn.Module, side: str) -> None:
        network = _network(model)
        if self.dense and not getattr(network, "on_grid", True):
            raise ValueError(
                f"dense={self.dense}: the {side}'s {type(network).__name__} has no raw outputs that dense terms can compare, which "
                "are YOLO's; between any two detectors there are pseudo-labels (hard=1) and features (feature=1)."
            )


def _network(model: nn.Module) -> nn.Module:
    """Returns the network of a `Detector`, or else the model itself."""
    return model.networks()[0] if isinstance(model, Detector) else model
