"""Ultralytics' training loss on raw outputs, where some boxes may be less certain than others."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from lkd.models.dense import Outputs, check_targets
from lkd.models.yolo_import import ultralytics_tasks

GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # YOLOv8's weights of the three terms


def yolo_loss(
    outputs: Outputs, targets: list[dict[str, Tensor]], num_classes: int, strides: Sequence[int]
) -> dict[str, Tensor]:
    """Computes the terms `box`, `cls` and `dfl` of raw outputs, as for `lkd.models.YOLO.loss`.

    Args:
        outputs: Outputs of the network.
        targets: One dict for each image.
        num_classes: Number of classes of the network.
        strides: Pixels per cell of each of its maps.

    Raises:
        ValueError: For targets that do not fit.
    """
    scores, feats = outputs["scores"], outputs["feats"]
    if len(targets) != len(scores):
        raise ValueError(f"targets holds {len(targets)} dicts, but the batch has {len(scores)} images.")
    boxes = torch.cat([target["boxes"] for target in targets]).to(scores.device, torch.float32)
    labels = torch.cat([target["labels"] for target in targets]).to(scores.device)
    check_targets(boxes, labels, num_classes)
    width, height = (feats[0].shape[axis] * strides[0] for axis in (3, 2))
    batch = {
        "cls": labels.float(),
        "bboxes": box_convert(boxes, "xyxy", "cxcywh") / boxes.new_tensor([width, height, width, height]),
        "batch_idx": torch.arange(len(targets), device=scores.device).repeat_interleave(
            torch.tensor([len(target["labels"]) for target in targets], device=scores.device)
        ),
    }
    head = SimpleNamespace(
        stride=torch.tensor(strides, device=scores.device, dtype=torch.float32),
        nc=num_classes,
        reg_max=outputs["boxes"].shape[1] // 4,
    )
    # The criterion reads only this of a network. It is cheap to make, and made anew it follows a move of the
    # model.
    network = SimpleNamespace(parameters=lambda: iter([scores]), args=GAINS, model=[head])
    raw = {"scores": scores.float(), "boxes": outputs["boxes"].float(), "feats": feats}
    criterion = ultralytics_tasks().v8DetectionLoss(network)
    if any("scores" in target for target in targets):
        sure = [target.get("scores", target["labels"].new_ones(())).to(scores.device, torch.float32)
                .expand(len(target["labels"])) for target in targets]  # fmt: skip
        criterion.assigner = _Confident(criterion.assigner, pad_sequence(sure, batch_first=True))
    with torch.autocast(scores.device.type, enabled=False):
        terms, _ = criterion.loss(raw, batch)
    return dict(zip(("box", "cls", "dfl"), terms / len(scores), strict=True))


class _Confident:
    """Assigner that scales class targets, and with them the weights of its anchors, by each box's confidence.

    Args:
        assigner: Assigner of labels, boxes and class targets `(B, A, nc)`, the foreground and the box index
            of each anchor.
        confidence: Confidence `(B, N)` of each box, padded; 1 for a certain one.
    """

    def __init__(self, assigner: Any, confidence: Tensor) -> None:
        self.assigner, self.confidence = assigner, confidence

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        labels, boxes, scores, foreground, index = self.assigner(*args, **kwargs)
        if self.confidence.shape[1]:
            scores = scores * self.confidence.gather(1, index).unsqueeze(2)
        return labels, boxes, scores, foreground, index
