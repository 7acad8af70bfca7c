"""Ultralytics' YOLO networks behind lkd's detector protocol."""

import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from lkd.models.architectures import check
from lkd.models.dense import Outputs, boxes_and_scores, detections, grid
from lkd.models.suppression import Detections
from lkd.models.yolo_import import bundled
from lkd.models.yolo_import import ultralytics_tasks as _ultralytics
from lkd.models.yolo_loss import yolo_loss
from lkd.models.yolo_weights import read


class YOLO(nn.Module):
    """A YOLO detector (v3 to 12, and v10 and 26 by their one-to-many branch) behind lkd's detector protocol.

    Args:
        model: A bundled yaml name (`"yolov8n.yaml"`: random weights), the path of a yaml or of `.pt` weights,
            or an architecture dict. Nothing is ever downloaded, and no code that a file names is run: weights
            are read without making its objects, and an architecture may only name the layers and activations
            of `lkd.models.architectures`.
        num_classes: Number of classes of a yaml or dict; default: its own. With a `.pt` or a class map it is
            only checked.
        class_map: `{source class: class}`. The class head keeps the source rows, and a class scores the
            maximum of its sources' logits: `{2: 0, 5: 0, 7: 0}` turns an 80-class COCO net into a 1-class
            vehicle net that finds the same boxes with the same scores. The result can be trained like any
            other.

    Attributes:
        architecture: Plain dict from which `YOLO(architecture)` rebuilds the network without the `.pt`.
        net: The Ultralytics network; `net.model` is the sequence of its layers.
        num_classes: Number of classes after mapping.

    Raises:
        ImportError: If the extra `lightning-kd[yolo]` is not installed.
        FileNotFoundError: If a `.pt` file does not exist.
        ValueError: For an unknown yaml, a head that gives other things than boxes, an unknown layer, or
            weights or classes that do not fit.

    Example:
        >>> network = YOLO("yolov8n.yaml", num_classes=1).eval()  # doctest: +SKIP
        >>> network(torch.zeros(2, 3, 64, 64))["scores"].shape  # doctest: +SKIP
        torch.Size([2, 1, 84])
    """

    weighs_scores = True

    def __init__(
        self,
        model: str | dict[str, Any],
        num_classes: int | None = None,
        class_map: dict[int, int] | None = None,
    ) -> None:
        super().__init__()
        state = None
        if isinstance(model, dict):
            architecture = copy.deepcopy(model)
        elif Path(model).suffix == ".pt":
            architecture, state = read(str(model))
        elif Path(model).suffix in (".yaml", ".yml"):
            architecture = bundled(str(model))
        else:
            raise ValueError(f"model={model!r} must be a .yaml name, a path of .pt weights, or a dict.")
        pairs = sorted([int(source), int(target)] for source, target in (class_map or {}).items())
        if pairs and architecture.setdefault("class_map", pairs) != pairs:
            raise ValueError(
                f"class_map={class_map} differs from the one in model: {architecture['class_map']}."
            )
        pairs = architecture.get("class_map", [])
        if state is None and not pairs and num_classes is not None:
            architecture["nc"] = num_classes
        self.architecture = architecture
        check(architecture, model)
        self.net = _ultralytics().DetectionModel(copy.deepcopy(architecture), verbose=False)
        if state is not None:
            try:
                self.net.load_state_dict(state)
            except RuntimeError as error:
                raise ValueError(
                    f"model={model!r}: its weights are not of its own architecture, as after fusing for export; give the weights "
                    "before that."
                ) from error
        for name in [name for name in self.head._modules if name.startswith("one2one_")]:
            delattr(self.head, name)  # v10, 26: the one-to-many branch carries boxes like the other families
        self.groups = self._map_classes(pairs)
        self.num_classes = len(self.groups)
        self.class_names = None if pairs else architecture.get("class_names")
        if num_classes not in (None, self.num_classes):
            raise ValueError(
                f"num_classes={num_classes}, but {'class_map' if pairs else model} gives {self.num_classes}; "
                "a class_map such as {2: 0, 5: 0, 7: 0} chooses and merges classes."
            )
        self.strides = [int(stride) for stride in self.head.stride]
        self.train()

    @property
    def head(self) -> Any:
        """The detection head, the last layer."""
        return self.net.model[-1]

    @property
    def layers(self) -> Any:
        """The layers from the image to the head."""
        return self.net.model

    def _map_classes(self, pairs: list[list[int]]) -> list[list[int]]:
        """Keeps the mapped rows of the class head, and returns the rows of each class."""
        count = self.head.nc
        if not pairs:
            return [[row] for row in range(count)]
        targets = sorted({target for _, target in pairs})
        if targets != list(range(len(targets))) or not all(0 <= source < count for source, _ in pairs):
            raise ValueError(f"class_map={pairs} must map classes 0..{count - 1} to 0, 1, ... without gaps.")
        rows = [source for source, _ in pairs]
        for branch in self.head.cv3:
            old = branch[-1]
            branch[-1] = nn.Conv2d(old.in_channels, len(rows), 1)
            branch[-1].load_state_dict({"weight": old.weight[rows], "bias": old.bias[rows]})
        self.head.nc, self.head.no = len(rows), len(rows) + 4 * self.head.reg_max
        return [[row for row, (_, target) in enumerate(pairs) if target == wanted] for wanted in targets]

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode; the head itself stays in the mode that returns raw outputs."""
        super().train(mode)
        self.head.training = True
        return self

    def forward(self, images: Tensor) -> Outputs:
        """Returns raw outputs of images `(B, 3, H, W)` in [0, 1], H and W multiples of the largest stride.

        Returns:
            `scores (B, nc, A)` logits, `boxes (B, 4 * reg_max, A)`, `feats` (the maps entering the head),
            `anchors (A, 2)` and `strides (A,)` in pixels; the same in train and eval mode.
        """
        height, width = images.shape[-2:]
        if images.ndim != 4 or height % self.strides[-1] or width % self.strides[-1]:
            raise ValueError(
                f"images: H and W must be multiples of {self.strides[-1]}, got shape {tuple(images.shape)}."
            )
        raw = self.net(images)
        scores = raw["scores"]
        if self.groups != [[row] for row in range(scores.shape[1])]:
            scores = torch.stack([scores[:, rows].amax(dim=1) for rows in self.groups], dim=1)
        anchors, strides = grid(raw["feats"], self.strides)
        return {**raw, "scores": scores, "anchors": anchors, "strides": strides}

    def loss(self, outputs: Outputs, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Computes the supervised loss by Ultralytics' criterion, with its weights 7.5, 0.5 and 1.5.

        Args:
            outputs: Result of `forward`.
            targets: One dict for each image: `boxes (N, 4)` xyxy in pixels of the input, `labels (N,)` int64,
                and optionally `scores (N,)` in [0, 1], how sure each box is (soft pseudo-labels). The class
                target and the weight of every anchor that a box is assigned to are multiplied by its score.
                Default 1.

        Returns:
            Scalars `box` (CIoU), `cls` (BCE), `dfl` (yolo26: L1 of the sides), each the mean over the images.

        Raises:
            ValueError: For targets that do not fit the batch, are not finite, or hold labels outside the
                classes.
        """
        return yolo_loss(outputs, targets, self.num_classes, self.strides)

    def boxes_and_scores(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Computes boxes `(B, A, 4)` and scores `(B, A, nc)` before suppression, see `lkd.models.dense`."""
        return boxes_and_scores(outputs)

    def decode(
        self,
        outputs: Outputs,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.6,
        max_detections: int = 300,
        class_agnostic: bool = False,
    ) -> Detections:
        """Finds detections in raw outputs; see `lkd.models.dense.detections`."""
        return detections(outputs, score_threshold, iou_threshold, max_detections, class_agnostic)

    def detect(self, images: Tensor) -> Detections:
        """Finds detections in images `(B, 3, H, W)` scored above .001, as mAP needs them.

        Other options have `decode`'s defaults.
        """
        return self.decode(self(images), score_threshold=0.001)
