"""Grid, box decoding and suppression against loops written here."""

import math

import pytest
import torch

from lkd.losses import decode_boxes
from lkd.models import detections, grid


def random_outputs(seed=0, classes=3, reg_max=8):
    generator = torch.Generator().manual_seed(seed)
    feats = [torch.zeros(2, 1, 4, 6), torch.zeros(2, 1, 2, 3)]
    anchors, strides = grid(feats, [8, 16])
    scores = torch.randn(2, classes, len(anchors), generator=generator)
    boxes = torch.randn(2, 4 * reg_max, len(anchors), generator=generator)
    boxes = boxes - torch.arange(reg_max).repeat(4).view(1, -1, 1)  # sides of about one cell
    return {"scores": scores, "boxes": boxes, "anchors": anchors, "strides": strides, "feats": feats}


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def test_grid_is_row_major_in_pixels():
    anchors, strides = grid([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)], [8, 32])
    wanted = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [16, 16]]
    assert anchors.tolist() == wanted
    assert strides.tolist() == [8] * 6 + [32]


def test_decode_boxes_is_the_expectation_of_each_side():
    outputs = random_outputs(reg_max=5)
    decoded = decode_boxes(outputs)
    for anchor in (0, 7, 29):
        sides = []
        for side in range(4):
            logits = outputs["boxes"][1, 5 * side : 5 * side + 5, anchor].tolist()
            total = sum(math.exp(value) for value in logits)
            sides.append(sum(k * math.exp(value) for k, value in enumerate(logits)) / total)
        x, y = outputs["anchors"][anchor].tolist()
        stride = outputs["strides"][anchor].item()
        wanted = [x - sides[0] * stride, y - sides[1] * stride, x + sides[2] * stride, y + sides[3] * stride]
        assert decoded[1, anchor].tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_detections_match_greedy_suppression(class_agnostic):
    outputs = random_outputs()
    boxes = decode_boxes(outputs)
    found = detections(outputs, 0.55, 0.2, 300, class_agnostic)
    for image in range(2):
        candidates = []
        for anchor in range(boxes.shape[1]):
            scores = outputs["scores"][image, :, anchor].sigmoid().tolist()
            x1, y1, x2, y2 = boxes[image, anchor].tolist()
            box = [max(x1, 0.0), max(y1, 0.0), min(x2, 48.0), min(y2, 32.0)]
            if max(scores) > 0.55:
                candidates.append((max(scores), scores.index(max(scores)), box))
        kept = []
        for score, label, box in sorted(candidates, reverse=True):
            rivals = [k for k in kept if class_agnostic or k[1] == label]
            if all(iou(box, k[2]) <= 0.2 for k in rivals):
                kept.append((score, label, box))
        assert len(candidates) > len(kept) > 1
        assert found[image]["scores"].tolist() == pytest.approx([k[0] for k in kept], rel=1e-5)
        assert found[image]["labels"].tolist() == [k[1] for k in kept]
        torch.testing.assert_close(found[image]["boxes"], torch.tensor([k[2] for k in kept]))


def test_detections_limit_threshold_and_emptiness():
    outputs = random_outputs()
    assert all(len(f["scores"]) == 3 for f in detections(outputs, 0.0, 0.9, 3))
    empty = detections(outputs, 1.0)[0]
    assert empty["boxes"].shape == (0, 4)
    assert empty["labels"].shape == (0,)
    assert empty["labels"].dtype == torch.int64
