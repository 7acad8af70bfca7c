"""Non-maximum suppression of boxes and scores, with the same rules for all detectors and their files."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

Detections = list[dict[str, Tensor]]


@torch.no_grad()
def suppressed(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.6,
    max_detections: int = 300,
    class_agnostic: bool = False,
    multi_label: bool = False,
) -> Detections:
    """Finds the detections of a batch: threshold, each image's best candidates, suppression within a class.

    Args:
        boxes: `(B, A, 4)` x1, y1, x2, y2 in pixels.
        scores: `(B, A, C)` of each class, in [0, 1].
        score_threshold: Boxes that score no more than this are dropped.
        iou_threshold: Of two boxes that overlap more than this, the one with the lower score is dropped.
        max_detections: Most boxes kept in an image. Suppression looks at ten times as many of the best
            candidates.
        class_agnostic: Whether to suppress across classes too. Default: only within a class.
        multi_label: Whether each class of a box is a candidate of its own. Default: its best class alone.

    Returns:
        One dict for each image: `boxes (N, 4)`, `scores (N,)` descending, `labels (N,)` int64.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 9], [20, 0, 28, 8]]])
        >>> (found,) = suppressed(boxes, torch.tensor([[[0.9, 0.7], [0.8, 0.1], [0.1, 0.2]]]))
        >>> found["boxes"].tolist(), found["labels"].tolist()
        ([[0.0, 0.0, 8.0, 8.0]], [0])
        >>> (found,) = suppressed(boxes, torch.tensor([[[0.9, 0.7], [0.8, 0.1], [0.1, 0.2]]]), multi_label=True)
        >>> found["labels"].tolist()
        [0, 1]
    """
    found = []
    for places, all_scores in zip(boxes, scores, strict=True):
        classes = all_scores.shape[1]
        best, labels = (all_scores.flatten(), None) if multi_label else all_scores.max(dim=1)
        kept = torch.nonzero(best > score_threshold).squeeze(1)
        kept = kept[best[kept].argsort(descending=True, stable=True)[: 10 * max_detections]]
        here = places[kept // classes] if labels is None else places[kept]
        label = kept % classes if labels is None else labels[kept]
        groups = torch.zeros_like(label) if class_agnostic else label
        left = batched_nms(here, best[kept], groups, iou_threshold)[:max_detections]
        found.append({"boxes": here[left], "scores": best[kept][left], "labels": label[left]})
    return found
