"""Weighted box fusion: joins the boxes that several detectors find in one image."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_iou

from lkd.checks import expect

Found = dict[str, Tensor]
"""Detections of an image: `boxes (N, 4)` xyxy, `scores (N,)`, `labels (N,)`."""


Confidence = Literal["mean", "max"]


def weighted_box_fusion(
    found: Sequence[Found], iou_threshold: float = 0.55, confidence: Confidence = "mean"
) -> Found:
    """Averages boxes that several models agree on, weighted by score; boxes of few models get lower scores.

    Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection
    models", Image and Vision Computing 107, 2021, arXiv:1910.13302, Section 3. All models' boxes, in
    descending order of score, join the fused box of their class with the largest IoU if that is above the
    threshold, or else begin a new one. A fused box has the mean of its members' coordinates weighted by
    score, eq. (2), and the mean of their scores, eq. (1), times `min(T, N) / N`, eq. (3), for T members and N
    models. With `"max"`, an option of the authors' library, it has the score of its most confident member.
    Unlike suppression, fusion drops no box. The authors' library is not used, since it needs a compiler.

    Args:
        found: Detections of each of the N models in the image.
        iou_threshold: Overlap above which boxes are fused, above 0 and below 1.
        confidence: Score of a fused box. `"mean"` suits models that have learned to see the same, `"max"`
            models of which each knows something else.

    Returns:
        Fused boxes in descending order of score.

    Raises:
        ValueError: For no model, a threshold out of range, or an unknown confidence.

    Example:
        >>> a = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 10.0]]), "scores": torch.tensor([0.9]), "labels": torch.tensor([0])}
        >>> b = {"boxes": torch.tensor([[0.0, 0.0, 10.0, 12.0]]), "scores": torch.tensor([0.3]), "labels": torch.tensor([0])}
        >>> weighted_box_fusion([a, b])["boxes"], weighted_box_fusion([a, b])["scores"]
        (tensor([[ 0.0000,  0.0000, 10.0000, 10.5000]]), tensor([0.6000]))
    """
    if not found:
        raise ValueError("found=[]: there is no model whose boxes could be fused.")
    expect(iou_threshold=iou_threshold, gt=0, lt=1)
    expect(confidence=confidence, among=("mean", "max"))
    boxes = torch.cat([one["boxes"].float().reshape(-1, 4) for one in found])
    scores = torch.cat([one["scores"].float() for one in found])
    labels = torch.cat([one["labels"].long() for one in found])
    fused: list[Tensor] = []
    members: list[list[int]] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        same = [c for c, group in enumerate(members) if labels[group[0]] == labels[i]]
        overlaps = (
            box_iou(boxes[i][None], torch.stack([fused[c] for c in same]))[0] if same else boxes.new_zeros(0)
        )
        if same and float(overlaps.max()) > iou_threshold:
            cluster = same[int(overlaps.argmax())]
            members[cluster].append(i)
            weights = scores[members[cluster], None]
            fused[cluster] = (weights * boxes[members[cluster]]).sum(0) / weights.sum()
        else:
            fused.append(boxes[i])
            members.append([i])
    count = len(found)
    if confidence == "max":
        sure = [scores[group].max() for group in members]
    else:
        sure = [scores[group].mean() * min(len(group), count) / count for group in members]
    if not fused:
        return {"boxes": boxes, "scores": scores, "labels": labels}
    result = {
        "boxes": torch.stack(fused),
        "scores": torch.stack(sure),
        "labels": torch.stack([labels[group[0]] for group in members]),
    }
    order = result["scores"].argsort(descending=True, stable=True)
    return {name: value[order] for name, value in result.items()}
