"""`DetectionReport`: the table Role x camera, the pictures and the curves of a detection run."""

import logging
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image
from torch import Tensor

from lkd.callbacks import start
from lkd.callbacks.bars import METRIC, bars, by_camera
from lkd.callbacks.distillation import Distillation
from lkd.callbacks.pictures import curves, side_by_side
from lkd.checks import expect
from lkd.metrics import DetectionTable
from lkd.metrics.tables import print_table, read_table, save_table
from lkd.server_model import server_model
from lkd.teachers import Teacher, detect_in_view
from lkd.teachers.classes import understand

log = logging.getLogger(__name__)

TWIN = "twin"  # the folder of the supervised twin's run, in that of the run
COLUMNS = {"precision": "Precision", "recall": "Recall", "map50": "mAP50", "map": "mAP50-95"}


class DetectionReport(Callback):
    """Callback that measures teacher and student on each camera, and writes tables and pictures.

    Writes into the folder `report/` of the run: `table.csv` and `table.md` (Role x camera x Precision,
    Recall, mAP50, mAP50-95; precision and recall at the best F1), one picture for each camera with truth,
    teacher and student side by side, and `curves.png`. If there is a role to compare the student to,
    `bars.png` and `bars.svg` show mAP50 by camera. W&B gets the table and the pictures.

    Roles are Teacher, Before (the student before training), Student, and Twin: the same student trained on
    labels by `supervised_twin: true` of the command line, if there is one.

    The curves begin before training if all validation data are measured then (`num_sanity_val_steps=-1`).

    Args:
        teacher: The teacher to measure; default: that of the run's `Distillation` callback, if there is one.
            It answers in the student's classes. If the match of the classes is not known, the run's teacher
            is left out with a warning.
        measure_teacher: Measure and draw the teacher too, which costs its forward on the test data. Default
            true.
        pictures: Frames to draw for each camera. Default 1, the middle of its test data.
        score_threshold: Detections of a lower score are not drawn. Default .3.
        folder: Where to write; default `report/` in the run's log folder.
        before: Measure the student on the test data before it is trained, too; it needs a `predict_step` that
            gives the detections of a batch. Default false.
    """

    def __init__(
        self,
        teacher: Teacher | None = None,
        measure_teacher: bool = True,
        pictures: int = 1,
        score_threshold: float = 0.3,
        folder: str | None = None,
        before: bool = False,
    ) -> None:
        expect(pictures=pictures, ge=0)
        self.teacher = teacher
        self.measure_teacher = measure_teacher
        self.before = before
        self.pictures = pictures
        self.score_threshold = score_threshold
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._history: list[dict[str, float]] = []
        self._start: list[dict[str, Any]] = []  # rows of the student before training
        self._fitted = self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """Returns the curves so far and the student's results before training, for a resumed run."""
        return {"history": self._history, "start": self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the curves of the interrupted run."""
        self._history, self._start = state_dict["history"], state_dict.get("start", [])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the student before its training, unless this training has begun earlier."""
        self._fitted = True  # a test alone knows nothing of what was before
        if self.before and trainer.ckpt_path is None:
            self._cameras(trainer)
            log.info("Measuring the student before its training.")
            self._start = start.measure(trainer, pl_module)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the values before training, if all validation data were measured."""
        if trainer.num_sanity_val_steps == float("inf"):
            values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            self._history.append({"epoch": 0.0, **values})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers that this epoch's validation metrics are new."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the epoch's losses and metrics."""
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith("_step")}
        if not self._validated:  # the metrics of an earlier epoch are still there
            values = {k: v for k, v in values.items() if not k.startswith("val/")}
        self._validated = False
        self._history.append({"epoch": float(trainer.current_epoch + 1), **values})

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the cameras and the teacher."""
        cameras = self._cameras(trainer)
        attached = [c.teacher for c in cast(Any, trainer).callbacks if isinstance(c, Distillation)]
        self._teacher = (self.teacher or next(iter(attached), None)) if self.measure_teacher else None
        if self._teacher:
            self._understand(self._teacher, server_model(pl_module))
        roles = ["Teacher", "Student"] if self._teacher else ["Student"]
        self._tables = {role: DetectionTable(cameras).to(pl_module.device) for role in roles}
        self._drawn: dict[str, list[Image.Image]] = {camera: [] for camera in cameras}
        self._seen = dict.fromkeys(cameras, 0)
        dataset = cast(Any, trainer).datamodule.test_dataloader().dataset
        frames = getattr(dataset, "frames", [])  # where they are not known beforehand the first are drawn
        self._count = {c: sum(f.camera == c for f in frames) for c in cameras}

    def _understand(self, teacher: Teacher, student: Any) -> None:
        """Makes the teacher answer in the student's classes, if it can.

        A teacher of features alone may have no such answer.
        """
        try:
            understand(teacher, student)
        except ValueError as error:
            if self.teacher is not None:
                raise
            rank_zero_warn(f"DetectionReport leaves the teacher out: {error}")
            self._teacher = None

    def _cameras(self, trainer: Trainer) -> list[str]:
        cameras: list[str] | None = getattr(getattr(trainer, "datamodule", None), "cameras", None)
        if not cameras:
            raise ValueError("DetectionReport needs a datamodule with a list `cameras`; use one of lkd's.")
        return cameras

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
        """Writes the tables, the pictures and the curves."""
        computed = {role: table.compute() for role, table in self._tables.items()}  # on every rank: it syncs
        if self._start and self._fitted:
            computed = {"Before": self._start, **computed}
        order = {role: computed[role] for role in ("Teacher", "Before", "Student") if role in computed}
        self.rows = [
            {"Role": role, "Camera": row["camera"], **{name: row[key] for key, name in COLUMNS.items()}}
            for role, rows in order.items()
            for row in rows
        ]
        run = trainer.log_dir or trainer.default_root_dir  # on every rank too: it is broadcast
        if not trainer.is_global_zero:
            return
        folder = Path(self.folder or Path(run) / "report")
        if (twin := Path(run) / TWIN / "report/table.csv").is_file():
            self.rows += [{**row, "Role": "Twin"} for row in read_table(twin) if row["Role"] == "Student"]
        save_table(self.rows, folder / "table")
        bars(self.rows, folder, trained="distilled, no labels" if self._teacher else "trained")
        for camera, images in self._drawn.items():
            for i, image in enumerate(images):
                image.save(folder / f"{camera}{f'_{i}' if i else ''}.jpg", quality=90)
        curves(self._history, folder / "curves.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._to_wandb(logger)
        if len({row["Role"] for row in self.rows}) > 1:
            print_table(
                by_camera(self.rows),
                f"{METRIC} on test frames; precision, recall and mAP50-95 are in {folder}/table.md",
            )
        else:
            print_table(self.rows, "Test frames by camera")
        print(f"Report: {folder}")

    def _to_wandb(self, logger: WandbLogger) -> None:
        data = [list(row.values()) for row in self.rows]
        logger.log_table("report/table", columns=list(self.rows[0]), data=data)
        for camera, images in self._drawn.items():
            if images:
                logger.log_image(f"report/{camera}", images=images)
