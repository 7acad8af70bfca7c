"""A detector as a LightningModule."""

from typing import Any, Self, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.metrics.detection import DetectionTable
from lkd.models.build import detector_network
from lkd.models.dense import Detections, Outputs, check_targets
from lkd.models.detector_network import DetectorNetwork
from lkd.models.per_camera import PerCamera
from lkd.models.torchvision_detector import TorchvisionDetector
from lkd.models.yolo import YOLO
from lkd.modules.optimize import configure
from lkd.modules.started import check_start, resumes, weights_of
from lkd.modules.watched import Watched
from lkd.pruned import replay


class Detector(Watched):
    """Detector, or one copy of it per camera.

    Batches are dicts with `images (B, 3, H, W)`, `targets` (one dict of `boxes` and `labels` per image) and
    `cameras`. Logs `train/loss`, its terms (for YOLO `train/box`, `train/cls`, `train/dfl`), and for
    validation (`val/`) and test (`test/`) `map50`, `map`, and with several cameras `map50/<camera>`.

    A checkpoint holds the architecture of a YOLO or `TorchvisionDetector`, so that
    `Detector.load_from_checkpoint(path, weights_only=True)` needs nothing else; another network made in
    Python has to be passed again: `network=...`. Optimizer and scheduler are not part of it. Warm-up and
    averaging are callbacks (`WarmUp`, `EMA`).

    Args:
        network: A network, `lkd.models.TorchvisionDetector(...)` or your own (`lkd.models.DetectorNetwork`);
            or what `lkd.models.YOLO` takes: a yaml name, the path of a `.pt`, or an architecture dict.
        num_classes: Number of classes of the detector (after `class_map`). Default: the network's; for a YOLO
            1.
        class_map: `{source class: class}` of a YOLO's pre-trained weights, such as `{2: 0, 5: 0, 7: 0}`
            (COCO's vehicles).
        class_names: Names of the classes, in order, by which a teacher's classes are matched. Default: the
            network's.
        start: Path of a `.ckpt` of another Detector of the same architecture (one without `cameras`), whose
            weights every copy starts from. It is read when `fit` begins, so a recipe may create it first.
        start_recipe: A configuration of `python cli.py fit` that trains `start`, if it does not exist or was
            made by another version of the recipe; see `lkd.teachers.Teacher`.
        cameras: One copy of the network for each of these cameras (`lkd.models.PerCamera`). Under DDP this
            needs `strategy: ddp_find_unused_parameters_true`.
        freeze: Number of the network's first `layers` (10 is YOLOv8's backbone) whose weights and batch
            statistics stay fixed.
        freeze_batchnorm: Whether all running batch statistics stay fixed (for small batches); scale and shift
            still train.
        score_threshold: Lowest score of a detection. The default suits mAP; use about .25 for pictures.
        iou_threshold: Overlap above which the detection with the lower score is dropped.
        max_detections: Largest number of detections in an image.
        optimizer: Creates the optimizer; biases and norms get no weight decay.
        scheduler: Creates the scheduler, stepped once per epoch. Default: constant learning rate.

    Raises:
        ValueError: For classes, cameras or layers that do not fit.
        TypeError: For a network that is not a detector's.

    Example:
        >>> from lkd.models import TorchvisionDetector
        >>> detector = Detector(TorchvisionDetector("ssdlite", "test_resnet", channels=16)).eval()
        >>> detector.detect(torch.zeros(1, 3, 64, 64))[0]["boxes"].shape[1]
        4
    """

    def __init__(
        self,
        network: nn.Module | str | dict[str, Any],
        num_classes: int | None = None,
        class_map: dict[int, int] | None = None,
        class_names: list[str] | None = None,
        start: str | None = None,
        start_recipe: str | None = None,
        cameras: list[str] | None = None,
        freeze: int = 0,
        freeze_batchnorm: bool = False,
        score_threshold: float = 0.001,
        iou_threshold: float = 0.6,
        max_detections: int = 300,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=0.002, weight_decay=0.0005
        ),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        check_start(start, start_recipe)
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler", "start_recipe"])
        if not isinstance(network, nn.Module) or "_instantiator" in self.hparams:  # plain data
            self.save_hyperparameters(ignore=["optimizer", "scheduler", "start_recipe"])
        made = detector_network(network, num_classes, class_map)
        if type(made) in (YOLO, TorchvisionDetector):
            self.hparams["network"] = made.architecture  # so a checkpoint can be rebuilt without the .pt file
        self.num_classes = cast(DetectorNetwork, made).num_classes
        self.hparams["num_classes"] = self.num_classes
        self.class_names = class_names or getattr(made, "class_names", None)
        if self.class_names and not len(set(self.class_names)) == len(self.class_names) == self.num_classes:
            raise ValueError(
                f"class_names={self.class_names} must be {self.num_classes} different names, one a class."
            )
        depth = len(getattr(made, "layers", ()))
        if not 0 <= freeze <= depth:
            raise ValueError(
                f"freeze={freeze} must be between 0 and the network's {depth} layers (`layers` of {type(made).__name__})."
            )
        self.freeze_layers, self.freeze_batchnorm = freeze, freeze_batchnorm
        for layer in self._frozen(made):
            layer.requires_grad_(False)
        self.network = PerCamera(made, cameras) if cameras else made
        self.thresholds = (score_threshold, iou_threshold, max_detections)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.val_table = DetectionTable(cameras, max_detections)
        self.test_table = DetectionTable(cameras, max_detections)
        self.start, self.start_recipe = start, start_recipe
        self.train()

    def setup(self, stage: str) -> None:
        """Loads the start weights; when training resumes, those of the checkpoint replace them."""
        if stage != "fit" or self.start is None or resumes(self):
            return
        weights = weights_of(self.start, self.start_recipe, "Detector")
        for network in self.networks():
            try:
                network.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(f"start={self.start!r} does not fit this network: {error}") from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drops `start` in favor of the checkpoint's weights, and narrows the network if they are pruned."""
        self.start = None
        replay(self, checkpoint)

    def networks(self) -> list[nn.Module]:
        """Returns the network, or all copies of it."""
        return list(self.network.copies.values()) if isinstance(self.network, PerCamera) else [self.network]

    @property
    def _first(self) -> DetectorNetwork:
        """One of the networks, for losses and boxes, which do not depend on weights."""
        return cast(DetectorNetwork, self.networks()[0])

    def _frozen(self, network: nn.Module) -> list[nn.Module]:
        return list(getattr(network, "layers", ()))[: self.freeze_layers]

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode; frozen layers and frozen batch norms stay in eval mode."""
        super().train(mode)
        for network in self.networks():
            for layer in self._frozen(network):
                layer.eval()
            if self.freeze_batchnorm:
                for module in network.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def forward(self, images: Tensor, cameras: list[str] | str | None = None) -> Outputs:
        """Computes raw outputs of images `(B, 3, H, W)`, as the network gives them."""
        return self.network(images, cameras) if isinstance(self.network, PerCamera) else self.network(images)

    def loss(self, outputs: Outputs, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Computes the supervised terms of the network, such as `box`, `cls` and `dfl` of YOLO."""
        return self._first.loss(outputs, targets)

    def decode(self, outputs: Outputs) -> Detections:
        """Decodes raw outputs to detections, with this module's thresholds."""
        return self._first.decode(outputs, *self.thresholds)

    def detect(self, images: Tensor, cameras: list[str] | None = None) -> Detections:
        """Detects objects in images: dicts of `boxes (N, 4)` xyxy pixels, `scores (N,)` and `labels (N,)`."""
        return self.decode(self(images, cameras))

    @looks_first
    def training_step(self, batch: dict[str, Any], batch_idx: int = 0) -> Tensor:
        """Computes the loss of a labeled batch."""
        if "targets" not in batch:
            raise ValueError(
                "the training data is unlabeled (no `targets` in the batch): attach BoxDistillation, "
                "or set unlabeled=false in the datamodule."
            )
        terms = self.loss(self(batch["images"], batch.get("cameras")), batch["targets"])
        loss = torch.stack(list(terms.values())).sum()
        require_finite(self, loss, terms)
        size = len(batch["images"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=size)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int = 0) -> None:
        """Adds a batch to the validation table."""
        self._evaluate(batch, "val", self.val_table)

    def test_step(self, batch: dict[str, Any], batch_idx: int = 0) -> Any:
        """Adds a batch to the test table; returns its detections."""
        return self._evaluate(batch, "test", self.test_table)

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> Detections:
        """Detects objects in the images of a batch."""
        return self.detect(batch["images"], batch.get("cameras"))

    def on_validation_epoch_end(self) -> None:
        """Logs the validation table."""
        self._log_table("val", self.val_table)

    def on_test_epoch_end(self) -> None:
        """Logs the test table."""
        self._log_table("test", self.test_table)

    def check_labels(self, batch: dict[str, Any], stage: str = "test") -> None:
        """Raises ValueError if a batch has no labels, or labels that are not in the classes."""
        if "targets" not in batch:
            raise ValueError(f"{stage} data needs labels: there is no `targets` in the batch.")
        boxes, labels = (
            torch.cat([target[key] for target in batch["targets"]]) for key in ("boxes", "labels")
        )
        check_targets(boxes, labels, self.num_classes)

    def configure_optimizers(self) -> Any:
        """Creates the optimizer with two groups (with and without weight decay), and the scheduler."""
        return configure(self, self.optimizer, self.scheduler)

    def _evaluate(self, batch: dict[str, Any], stage: str, table: DetectionTable) -> Detections:
        found = self.detect(batch["images"], batch.get("cameras"))
        self.check_labels(batch, stage)
        table.update(found, batch["targets"], batch.get("cameras"))
        return found

    def _log_table(self, stage: str, table: DetectionTable) -> None:
        rows = table.compute()
        table.reset()
        for row in rows:
            if row["camera"] == "all":
                # sync_dist: the table is the same on all ranks, and Lightning wants to be told so
                self.log(f"{stage}/map50", row["map50"], prog_bar=True, sync_dist=True)
                self.log(f"{stage}/map", row["map"], sync_dist=True)
            else:
                self.log(f"{stage}/map50/{row['camera']}", row["map50"], sync_dist=True)
