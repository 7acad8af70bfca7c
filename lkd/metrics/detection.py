"""Detection quality per camera: precision, recall, mAP50 and mAP."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision

from lkd.checks import expect

ALL = "all"  # name of the last row


class DetectionTable(Metric):
    """Table of `precision`, `recall`, `map50` and `map`, a row per camera and a last row `"all"`.

    `map50` is the average precision at an IoU of .5, `map` the mean over IoUs .5 to .95, both COCO's
    (101-point interpolation, mean over the classes that have objects), computed by torchmetrics with
    faster-coco-eval. `precision` and `recall` are those of the score threshold with the best F1 at an IoU of
    .5, per class and then averaged. They are read from the 101 points of the interpolated curve, so recall is
    a multiple of .01 and precision is the best at that recall or above. Values are in [0, 1]; NaN where there
    there are no objects.

    All frames of all ranks are gathered when `compute` is called, by every rank. In a process of a group that
    measures on its own (such as a client of a federation), pass
    `distributed_available_fn=lambda: False`.

    Args:
        cameras: Names of the rows, in order. Default: the cameras that occurred, sorted.
        max_detections: Largest number of detections of a class that count in a frame, the best first.
        kwargs: Options of `torchmetrics.Metric`.

    Raises:
        ValueError: If no detection may count.

    Example:
        >>> table = DetectionTable()
        >>> box = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> found = {"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([0])}
        >>> table.update([found], [{"boxes": box, "labels": torch.tensor([0])}], ["C1"])
        >>> [(row["camera"], round(row["map50"], 2)) for row in table.compute()]
        [('C1', 1.0), ('all', 1.0)]
    """

    full_state_update = False
    # Flat float32 tensors, since ranks without a frame contribute an empty tensor, which fits no other shape.
    found: list[Tensor]
    objects: list[Tensor]
    counts: list[Tensor]
    names: list[Tensor]

    def __init__(
        self, cameras: Sequence[str] | None = None, max_detections: int = 300, **kwargs: Any
    ) -> None:
        expect(max_detections=max_detections, ge=1)
        super().__init__(**kwargs)
        self.cameras = None if cameras is None else list(cameras)
        self.max_detections = max_detections
        for state in ("found", "objects", "counts", "names"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self,
        detections: Sequence[dict[str, Tensor]],
        targets: Sequence[dict[str, Tensor]],
        cameras: Sequence[str] | None = None,
    ) -> None:
        """Adds the frames of a batch.

        Args:
            detections: One dict per frame: `boxes (N, 4)` xyxy, `scores (N,)`, `labels (N,)`.
            targets: One dict per frame: `boxes (M, 4)` in the same pixels, `labels (M,)`.
            cameras: The camera of each frame; with None they count only towards `"all"`.

        Raises:
            ValueError: For lengths that differ, or a camera that is not in the table.
        """
        names = [""] * len(detections) if cameras is None else list(cameras)
        if not len(detections) == len(targets) == len(names):
            raise ValueError(
                f"detections, targets and cameras must have one entry a frame, "
                f"got {len(detections)}, {len(targets)} and {len(names)}."
            )
        unknown = set(names) - {"", *(self.cameras or names)}
        if unknown:
            raise ValueError(f"cameras: {', '.join(sorted(unknown))} not in this table of {self.cameras}.")
        for found, target, name in zip(detections, targets, names, strict=True):
            scored = (found["scores"].unsqueeze(1), found["labels"].unsqueeze(1))
            self.found.append(torch.cat((found["boxes"], *scored), dim=1).float().flatten())
            objects = torch.cat((target["boxes"], target["labels"].unsqueeze(1)), dim=1)
            self.objects.append(objects.float().flatten())
            sizes = [len(found["boxes"]), len(target["boxes"]), len(name.encode())]
            self.counts.append(torch.tensor(sizes, dtype=torch.float32, device=self.device))
            self.names.append(torch.tensor(list(name.encode()), dtype=torch.float32, device=self.device))

    def compute(self) -> list[dict[str, Any]]:
        """Computes the rows, as dicts of `camera`, `precision`, `recall`, `map50`, `map`."""
        frames = self._frames()
        cameras = self.cameras or sorted({name for name, _, _ in frames if name})
        rows = [{"camera": name, **self._measure([f for f in frames if f[0] == name])} for name in cameras]
        return [*rows, {"camera": ALL, **self._measure(frames)}]

    def _frames(self) -> list[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Splits the flat states into frames: camera, detections, objects."""
        # a state is a list of tensors before a sync, and one tensor after it
        found, objects, counts, names = (
            torch.cat(
                [torch.empty(0), *(part.cpu() for part in ([state] if torch.is_tensor(state) else state))]
            )
            for state in (self.found, self.objects, self.counts, self.names)
        )
        sizes = counts.long().view(-1, 3).T
        return [
            (
                bytes(name.long().tolist()).decode(),
                {"boxes": d[:, :4], "scores": d[:, 4], "labels": d[:, 5].long()},
                {"boxes": o[:, :4], "labels": o[:, 4].long()},
            )
            for d, o, name in zip(
                found.view(-1, 6).split(sizes[0].tolist()),
                objects.view(-1, 5).split(sizes[1].tolist()),
                names.split(sizes[2].tolist()),
                strict=True,
            )
        ]

    def _measure(self, frames: list[tuple[str, dict[str, Tensor], dict[str, Tensor]]]) -> dict[str, float]:
        if not any(len(objects["labels"]) for _, _, objects in frames):
            return dict.fromkeys(("precision", "recall", "map50", "map"), math.nan)
        metric = MeanAveragePrecision(
            backend="faster_coco_eval",
            # torchmetrics' own thresholds are float32 roundings, which miss a recall of exactly .1
            iou_thresholds=[k / 100 for k in range(50, 100, 5)],
            rec_thresholds=[k / 100 for k in range(101)],
            # torchmetrics sorts its three numbers, and the last one is read below
            max_detection_thresholds=[1, min(10, self.max_detections), self.max_detections],
            extended_summary=True,
            distributed_available_fn=lambda: False,  # the frames of all ranks are here already
        )
        metric.warn_on_many_detections = False
        metric.update([found for _, found, _ in frames], [objects for _, _, objects in frames])
        # (IoU, recall, class, area, detections): all areas, most detections; -1 marks classes without objects
        precision = metric.compute()["precision"][:, :, :, 0, -1].double()
        precision = precision[:, :, (precision >= 0).all(dim=0).all(dim=0)]
        recall = torch.linspace(0, 1, precision.shape[1], dtype=torch.float64).unsqueeze(1)
        f1 = 2 * precision[0] * recall / (precision[0] + recall).clamp(min=1e-12)
        best = f1.argmax(dim=0, keepdim=True)
        return {
            "precision": precision[0].gather(0, best).mean().item(),
            "recall": recall.expand_as(f1).gather(0, best).mean().item(),
            "map50": precision[0].mean().item(),
            "map": precision.mean().item(),
        }
