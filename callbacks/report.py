"""`DetectionReport`: the table Role x camera, the pictures and the curves of a detection run."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image
from torch import Tensor

from lkd.callbacks.distillation import Distillation
from lkd.callbacks.pictures import curves, side_by_side
from lkd.metrics import DetectionTable
from lkd.metrics.tables import print_table, save_table
from lkd.teachers import Teacher, detect_in_view
from lkd.teachers.classes import understand

COLUMNS = {"precision": "Precision", "recall": "Recall", "map50": "mAP50", "map": "mAP50-95"}


class DetectionReport(Callback):
    """Measures teacher and student on each camera of the test data and writes what a reader wants to see.

    Into the folder `report/` of the run: `table.csv` and `table.md` (Role x camera x Precision, Recall,
    mAP50, mAP50-95; precision and recall at the best F1), one picture a camera with truth, teacher and
    student side by side, and `curves.png`. W&B gets the table and the pictures.

    Args:
        teacher: The teacher to measure; default that of the run's `Distillation` callback, if there is one. It answers in the student's
            classes; where nobody says what its own are to them, the run's teacher is left out with a warning.
        measure_teacher: Measure and draw the teacher too, which costs its forward on the test data. Default true.
        pictures: Frames to draw for each camera. Default 1, the middle of its test data.
        score_threshold: Detections of a lower score are not drawn. Default .3.
        folder: Where to write; default `report/` in the run's log folder.
    """

    def __init__(
        self,
        teacher: Teacher | None = None,
        measure_teacher: bool = True,
        pictures: int = 1,
        score_threshold: float = 0.3,
        folder: str | None = None,
    ) -> None:
        if pictures < 0:
            raise ValueError(f"pictures={pictures} must be 0 or more.")
        self.teacher = teacher
        self.measure_teacher = measure_teacher
        self.pictures = pictures
        self.score_threshold = score_threshold
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._history: list[dict[str, float]] = []
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """The curves so far, so that a resumed run draws them whole."""
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the curves of the interrupted run."""
        self._history = state_dict["history"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers that this epoch's validation metrics are new."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the epoch's losses and metrics."""
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith("_step")}
        if not self._validated:  # the metrics of an earlier epoch are still there
            values = {k: v for k, v in values.items() if not k.startswith("val/")}
        self._validated = False
        self._history.append({"epoch": float(trainer.current_epoch), **values})

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the cameras and the teacher."""
        cameras = getattr(getattr(trainer, "datamodule", None), "cameras", None)
        if not cameras:
            raise ValueError("DetectionReport needs a datamodule with a list `cameras`; use one of lkd's.")
        attached = [c.teacher for c in cast(Any, trainer).callbacks if isinstance(c, Distillation)]
        self._teacher = (self.teacher or next(iter(attached), None)) if self.measure_teacher else None
        if self._teacher:
            self._understand(self._teacher, getattr(pl_module, "client", pl_module))
        roles = ["Teacher", "Student"] if self._teacher else ["Student"]
        self._tables = {role: DetectionTable(cameras).to(pl_module.device) for role in roles}
        self._drawn: dict[str, list[Image.Image]] = {camera: [] for camera in cameras}
        self._seen = dict.fromkeys(cameras, 0)
        dataset = cast(Any, trainer).datamodule.test_dataloader().dataset
        frames = getattr(dataset, "frames", [])  # where they are not known beforehand the first are drawn
        self._count = {c: sum(f.camera == c for f in frames) for c in cameras}

    def _understand(self, teacher: Teacher, student: Any) -> None:
        """Has the teacher answer in the student's classes; one that taught features alone may have no such answer."""
        try:
            understand(teacher, student)
        except ValueError as error:
            if self.teacher is not None:
                raise
            rank_zero_warn(f"DetectionReport leaves the teacher out: {error}")
            self._teacher = None

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Adds the batch to the tables, and draws the chosen frames."""
        found = {"Student": outputs}
        if self._teacher:
            found = {"Teacher": detect_in_view(self._teacher, batch), **found}
        for role, detections in found.items():
            self._tables[role].update(detections, batch["targets"], batch["cameras"])
        for i, camera in enumerate(batch["cameras"]):
            first = max(0, (self._count[camera] - self.pictures) // 2)
            if first <= self._seen[camera] < first + self.pictures:
                self._drawn[camera].append(self._draw(batch, i, found))
            self._seen[camera] += 1

    def _draw(self, batch: dict[str, Any], i: int, found: dict[str, list[dict[str, Tensor]]]) -> Image.Image:
        h, w = batch["sizes"][i]
        boxes = {"Truth": batch["targets"][i]["boxes"]}
        for role, detections in found.items():
            boxes[role] = detections[i]["boxes"][detections[i]["scores"] >= self.score_threshold]
        return side_by_side(batch["images"][i][:, :h, :w], boxes, batch["cameras"][i])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes everything."""
        computed = {role: table.compute() for role, table in self._tables.items()}  # on every rank: it syncs
        self.rows = [
            {"Role": role, "Camera": row["camera"], **{name: row[key] for key, name in COLUMNS.items()}}
            for role, rows in computed.items()
            for row in rows
        ]
        run = trainer.log_dir or trainer.default_root_dir  # on every rank too: it is broadcast
        if not trainer.is_global_zero:
            return
        folder = Path(self.folder or Path(run) / "report")
        save_table(self.rows, folder / "table")
        for camera, images in self._drawn.items():
            for i, image in enumerate(images):
                image.save(folder / f"{camera}{f'_{i}' if i else ''}.jpg", quality=90)
        curves(self._history, folder / "curves.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._to_wandb(logger)
        print_table(self.rows, "Test frames by role and camera")
        print(f"Report: {folder}")

    def _to_wandb(self, logger: WandbLogger) -> None:
        data = [list(row.values()) for row in self.rows]
        logger.log_table("report/table", columns=list(self.rows[0]), data=data)
        for camera, images in self._drawn.items():
            if images:
                logger.log_image(f"report/{camera}", images=images)
