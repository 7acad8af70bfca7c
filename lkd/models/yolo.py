"""The adapter to Ultralytics' YOLO networks: the one file of lkd that imports ultralytics (AGPL-3.0), lazily.

Only its networks and its training loss are used, never its trainer, predictor or downloads.
"""

import copy
import difflib
import os
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from lkd.models.architectures import check
from lkd.models.dense import Detections, Outputs, check_targets, detections, grid
from lkd.models.yolo_weights import read

GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # YOLOv8's weights of the three terms


def _ultralytics() -> Any:
    """Ultralytics' module of networks, imported without its side effects on this process.

    The import would set environment variables (OMP_NUM_THREADS=1 among them), look up two names on the
    network, and replace torch.save, PIL's Image.open (by one that installs packages when it meets a damaged
    picture) and the print options of torch and numpy; all of it is kept out or put back. What stays is the
    settings file that its first import ever writes to the user's configuration folder.
    """
    if "ultralytics.nn.tasks" in sys.modules:
        return sys.modules["ultralytics.nn.tasks"]
    environment, save, open_image = dict(os.environ), torch.save, Image.open
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
    try:
        with warnings.catch_warnings(), numpy.printoptions(), torch._tensor_str.printoptions():
            from ultralytics.nn import tasks
            from ultralytics.utils import SETTINGS
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "ultralytics":
            raise
        raise ImportError(
            'YOLO needs the extra: pip install "lightning-kd[yolo]" (Ultralytics, AGPL-3.0).'
        ) from error
    finally:
        torch.save, Image.open = save, open_image
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ |= environment
    dict.update(SETTINGS, sync=False)  # in this process only: the user's settings file stays as it is
    return tasks


def _bundled(name: str) -> dict[str, Any]:
    """The architecture of a yaml name such as `yolo11n.yaml`: a file, or one shipped with Ultralytics."""
    tasks = _ultralytics()
    if not Path(name).is_file():
        known = {path.name for path in (Path(tasks.__file__).parents[1] / "cfg" / "models").rglob("*.yaml")}
        if not known & {name, re.sub(r"(?<=\d)[nsmlx](?=[-.])", "", name)}:
            sized = {re.sub(r"(?<=\d)(?=[-.])", size, each, count=1) for each in known for size in "nsmlx"}
            near = difflib.get_close_matches(name, sorted(sized), n=3) or ["yolo11n.yaml", "yolov8n.yaml"]
            raise ValueError(
                f"model={name!r} is neither a file nor a known yaml; near ones: {', '.join(near)}."
            )
    return tasks.yaml_model_load(name)


class _Confident:
    """An assigner whose class targets, and with them the weights of its anchors, are scaled by each box's confidence.

    Args:
        assigner: Gives labels, boxes and class targets `(B, A, nc)`, the foreground and the box index of each anchor.
        confidence: `(B, N)`, padded; 1 for a box that is certain.
    """

    def __init__(self, assigner: Any, confidence: Tensor) -> None:
        self.assigner, self.confidence = assigner, confidence

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        labels, boxes, scores, foreground, index = self.assigner(*args, **kwargs)
        if self.confidence.shape[1]:
            scores = scores * self.confidence.gather(1, index).unsqueeze(2)
        return labels, boxes, scores, foreground, index


class YOLO(nn.Module):
    """A YOLO detector (v3 to 12, and v10 and 26 by their one-to-many branch) behind lkd's detector protocol.

    Args:
        model: A bundled yaml name (`"yolov8n.yaml"`: random weights), the path of a yaml or of `.pt` weights,
            or an architecture dict. Nothing is ever downloaded, and nothing that a file names is run: weights are read without
            making its objects, and an architecture may name the layers and activations of `lkd.models.architectures` alone.
        num_classes: Classes of a yaml or dict; default: what it says. With a `.pt` or a class map it is only
            checked.
        class_map: `{source class: class}`; the class head keeps the source rows and a class scores the
            maximum of its sources' logits: `{2: 0, 5: 0, 7: 0}` turns an 80-class COCO net into a 1-class
            vehicle net that finds the same boxes with the same scores. The result is trainable like any
            other.

    Attributes:
        architecture: Plain dict from which `YOLO(architecture)` rebuilds the network without the `.pt`.
        net: The Ultralytics network; `net.model` is the sequence of its layers.
        num_classes: Number of classes after mapping.

    Raises:
        ImportError: The extra `lightning-kd[yolo]` is not installed.
        FileNotFoundError: A `.pt` file does not exist.
        ValueError: An unknown yaml, a head that gives other than boxes, a layer that is not known, weights that do not fit, or classes.

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
            architecture = _bundled(str(model))
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
        """From the image to the head."""
        return self.net.model

    def _map_classes(self, pairs: list[list[int]]) -> list[list[int]]:
        """Keep the mapped rows of the class head; return the rows of each class."""
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
        """Set the training mode; the head itself stays in the mode that returns raw outputs."""
        super().train(mode)
        self.head.training = True
        return self

    def forward(self, images: Tensor) -> Outputs:
        """Raw outputs of images `(B, 3, H, W)` in [0, 1], H and W multiples of the largest stride.

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
        """Supervised loss of raw outputs by Ultralytics' criterion, with its weights 7.5, 0.5 and 1.5.

        Args:
            outputs: What `forward` returned.
            targets: One dict an image: `boxes (N, 4)` xyxy in pixels of the input, `labels (N,)` int64, and
                optionally `scores (N,)` in [0, 1], how sure each box is (soft pseudo-labels): the class target and
                the weight of every anchor that a box is assigned to are multiplied by it. Default 1.

        Returns:
            Scalars `box` (CIoU), `cls` (BCE), `dfl` (yolo26: L1 of the sides), each the mean per image.

        Raises:
            ValueError: Targets that do not fit the batch, are not finite, or hold labels outside the classes.
        """
        scores, feats = outputs["scores"], outputs["feats"]
        if len(targets) != len(scores):
            raise ValueError(f"targets holds {len(targets)} dicts, but the batch has {len(scores)} images.")
        boxes = torch.cat([target["boxes"] for target in targets]).to(scores.device, torch.float32)
        labels = torch.cat([target["labels"] for target in targets]).to(scores.device)
        check_targets(boxes, labels, self.num_classes)
        width, height = (feats[0].shape[axis] * self.strides[0] for axis in (3, 2))
        batch = {
            "cls": labels.float(),
            "bboxes": box_convert(boxes, "xyxy", "cxcywh") / boxes.new_tensor([width, height, width, height]),
            "batch_idx": torch.arange(len(targets), device=scores.device).repeat_interleave(
                torch.tensor([len(target["labels"]) for target in targets], device=scores.device)
            ),
        }
        head = SimpleNamespace(
            stride=torch.tensor(self.strides, device=scores.device, dtype=torch.float32),
            nc=self.num_classes,
            reg_max=outputs["boxes"].shape[1] // 4,
        )
        # The criterion reads only this of a network. Made anew (cheap), it cannot go stale by a move.
        network = SimpleNamespace(parameters=lambda: iter([scores]), args=GAINS, model=[head])
        raw = {"scores": scores.float(), "boxes": outputs["boxes"].float(), "feats": feats}
        criterion = _ultralytics().v8DetectionLoss(network)
        if any("scores" in target for target in targets):
            sure = [target.get("scores", target["labels"].new_ones(())).to(scores.device, torch.float32)
                    .expand(len(target["labels"])) for target in targets]  # fmt: skip
            criterion.assigner = _Confident(criterion.assigner, pad_sequence(sure, batch_first=True))
        with torch.autocast(scores.device.type, enabled=False):
            terms, _ = criterion.loss(raw, batch)
        return dict(zip(("box", "cls", "dfl"), terms / len(scores), strict=True))

    def decode(
        self,
        outputs: Outputs,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.6,
        max_detections: int = 300,
        class_agnostic: bool = False,
    ) -> Detections:
        """Detections of raw outputs; see `lkd.models.dense.detections`."""
        return detections(outputs, score_threshold, iou_threshold, max_detections, class_agnostic)

    def detect(self, images: Tensor) -> Detections:
        """Detections of images `(B, 3, H, W)` scored above .001, as mAP needs them; else `decode`'s defaults."""
        return self.decode(self(images), score_threshold=0.001)
