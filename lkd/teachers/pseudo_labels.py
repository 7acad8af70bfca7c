"""Hard pseudo-labels: the teacher's boxes in place of annotated ones."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from lkd.checks import expect
from lkd.teachers.teacher import Teacher

Detections = list[dict[str, Tensor]]


class PseudoLabels:
    """Source of a detection batch's targets: the teacher's boxes.

    As in Molo et al., "Teacher-Student Models for AI Vision at the Edge: A Car Parking Case Study" (VISAPP
    2024): for every augmented batch, the student's ordinary loss compares with the teacher's boxes above a
    score, after non-maximum suppression.

    Args:
        teacher: Any detector; see `Teacher.detect`.
        score_threshold: Boxes of a lower score are left out.
        iou_threshold: Of two boxes that overlap more than this, the one with the higher score stays.
        sees: `"batch"`: the teacher runs on every batch, on the same augmented view (at the teacher's own
            resolution where the batch has `teacher_images`), as published. `"frame"`: the teacher runs once
            on each whole frame, and its boxes are mapped into every later view of it, which costs one
            forward per frame in the whole training.
        soft: Whether targets have the teacher's `scores`, for a student whose loss weights by them, such as
            `Detector`.
        frames: For `"frame"`: returns the whole frames `(N, 3, H, W)` at the teacher's resolution, and their
            unpadded sizes, for a list of paths.

    Raises:
        ValueError: If a threshold is not in [0, 1], `sees` is unknown, or `frames` is missing at the first
            batch.
    """

    def __init__(
        self,
        teacher: Teacher,
        score_threshold: float = 0.45,
        iou_threshold: float = 0.6,
        sees: Literal["batch", "frame"] = "batch",
        soft: bool = False,
        frames: Callable[[list[str]], tuple[Tensor, list[tuple[int, int]]]] | None = None,
    ) -> None:
        expect(score_threshold=score_threshold, iou_threshold=iou_threshold, ge=0, le=1)
        expect(sees=sees, among=("batch", "frame"))
        self.teacher = teacher
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.sees = sees
        self.soft = soft
        self.frames = frames
        self._known: dict[str, dict[str, Tensor]] = {}  # path -> boxes as fractions of the frame

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns the batch with the teacher's boxes as `targets`; annotated ones, if any, are ignored."""
        if self.sees == "frame":
            found = self._from_frames(batch)
        else:
            found = [self._keep(f) for f in detect_in_view(self.teacher, batch)]
        device = batch["images"].device
        keys = ("boxes", "labels", "scores") if self.soft else ("boxes", "labels")
        return {**batch, "targets": [{key: f[key].to(device) for key in keys} for f in found]}

    def _from_frames(self, batch: dict[str, Any]) -> Detections:
        new = [p for p in dict.fromkeys(batch["paths"]) if p not in self._known]
        if new:
            if self.frames is None:
                raise ValueError(
                    "sees='frame' needs frames, a function that returns the whole frames of paths."
                )
            images, sizes = self.frames(new)
            owners = dict(zip(batch["paths"], batch.get("cameras", []), strict=False))
            cameras = [owners[path] for path in new] if owners else None
            found = self.teacher.detect(images.to(batch["images"].device), cameras)
            for path, f, (h, w) in zip(new, found, sizes, strict=True):
                kept = self._keep(f)
                self._known[path] = {**kept, "boxes": kept["boxes"] / kept["boxes"].new_tensor([w, h, w, h])}
        views = zip(batch["paths"], batch["views"], batch["sizes"], strict=True)
        return [into_view(self._known[path], view, size) for path, view, size in views]

    def _keep(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drops unsure, doubled and empty boxes; without any box the shapes are (0, 4) and (0,)."""
        real = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(
            1
        )  # a box in the padding has no area in the view
        sure = (found["scores"] >= self.score_threshold) & real
        boxes, scores, labels = (found[k][sure] for k in ("boxes", "scores", "labels"))
        if len(boxes) == 0:
            return {"boxes": boxes.reshape(0, 4).float(), "scores": scores.float(), "labels": labels.long()}
        kept = batched_nms(boxes.float(), scores.float(), labels, self.iou_threshold)
        return {"boxes": boxes[kept].float(), "scores": scores[kept].float(), "labels": labels[kept].long()}


def detect_in_view(teacher: Teacher, batch: dict[str, Any]) -> Detections:
    """Returns the teacher's detections on a batch, in pixels of the student's view and clipped to it.

    If the batch has `teacher_images`, the teacher sees those, the same view at its own resolution; a `Parent`
    does not.
    """
    images = batch["images"]
    sizes = batch.get("sizes", [images.shape[-2:]] * len(images))
    apart = "teacher_images" in batch and not teacher.sees_student_view
    theirs, teacher_sizes = (batch["teacher_images"], batch["teacher_sizes"]) if apart else (images, sizes)
    found = teacher.detect(theirs, batch.get("cameras"))
    moved = []
    for one, (h, w), (teacher_h, teacher_w) in zip(found, sizes, teacher_sizes, strict=True):
        boxes = one["boxes"] * one["boxes"].new_tensor([w / teacher_w, h / teacher_h] * 2)
        moved.append({**one, "boxes": boxes.clamp(boxes.new_zeros(4), boxes.new_tensor([w, h, w, h]))})
    return moved


def into_view(
    found: dict[str, Tensor], view: Tensor, size: tuple[int, int], min_visible: float = 0.3
) -> dict[str, Tensor]:
    """Maps boxes of a whole frame into a cropped and flipped view of it.

    Args:
        found: `boxes` (N, 4) xyxy as fractions of the frame, and tensors of length N beside it.
        view: (5,): the crop `x0, y0, x1, y1` as fractions of the frame, and 1 if it was flipped
            from left to right.
        size: Height and width of the view in pixels.
        min_visible: Boxes that keep less than this share of their area, or nothing, are dropped.

    Returns:
        The same dict with boxes in pixels of the view, and without the dropped ones.

    Example:
        >>> whole = {"boxes": torch.tensor([[0.5, 0.5, 0.75, 0.75]]), "labels": torch.tensor([0])}
        >>> into_view(whole, torch.tensor([0.5, 0.5, 1.0, 1.0, 1.0]), (100, 200))["boxes"]
        tensor([[100.,   0., 200.,  50.]])
    """
    x0, y0, x1, y1, flipped = view.tolist()
    h, w = size
    boxes = found["boxes"]
    scale = boxes.new_tensor([w / (x1 - x0), h / (y1 - y0)] * 2)
    moved = (boxes - boxes.new_tensor([x0, y0] * 2)) * scale
    if flipped:
        moved = torch.stack([w - moved[:, 2], moved[:, 1], w - moved[:, 0], moved[:, 3]], dim=1)
    low, high = moved.new_zeros(4), moved.new_tensor([w, h, w, h])
    clipped = moved.clamp(low, high)
    area = (moved[:, 2:] - moved[:, :2]).prod(1)
    visible = (clipped[:, 2:] - clipped[:, :2]).prod(1)
    seen = (visible >= min_visible * area) & (visible > 0)
    return {**{k: v[seen] for k, v in found.items()}, "boxes": clipped[seen]}
