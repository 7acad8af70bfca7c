"""Pooled average precision against torchmetrics with faster-coco-eval, and by hand."""

import math

import numpy as np
import pytest
import torch

from lkd.metrics import DetectionTable
from lkd.metrics.average_precision import match, pooled, pooled_ap


def drawn(seed, frames=12, classes=2):
    """Objects, and detections near some of them, with doubles, wrong classes and boxes of nothing."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(frames):
        count = random.integers(0, 6)
        corner, side = random.uniform(0, 80, (count, 2)), random.uniform(8, 30, (count, 2))
        truth = {"boxes": np.hstack([corner, corner + side]), "labels": random.integers(0, classes, count)}
        picks = random.integers(0, count, random.integers(0, 40)) if count else np.zeros(0, int)
        boxes = truth["boxes"][picks] + random.normal(0, 2.5, (len(picks), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        loose = random.uniform(0, 60, (3, 2))
        boxes = np.vstack([boxes, np.hstack([loose, loose + 12])])
        labels = np.concatenate([truth["labels"][picks], random.integers(0, classes, 3)])
        labels = np.where(random.random(len(labels)) < 0.15, (labels + 1) % classes, labels)
        scores = random.random(len(labels)).astype(np.float32)
        pairs.append(({"boxes": boxes, "scores": scores, "labels": labels}, truth))
    return pairs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [11, 300])
def test_it_is_what_the_detection_table_says(seed, most):
    table, frames = DetectionTable(max_detections=most), []
    for found, truth in drawn(seed):
        frames.append(match(found, truth, most))
        tensors = [{k: torch.from_numpy(np.asarray(v)) for k, v in one.items()} for one in (found, truth)]
        table.update([tensors[0]], [tensors[1]])
    (row,) = table.compute()
    ours = pooled(frames)
    assert ours == pytest.approx({name: row[name] for name in ours}, abs=1e-6)
    for name in ("map50", "map"):
        assert pooled_ap(frames, name) == pytest.approx(ours[name], abs=1e-12)


def test_by_hand():
    """Two objects; a hit at .9, a miss at .8, a hit at .7: precision 1 up to recall .5, then 2/3."""
    truth = {"boxes": np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]]), "labels": np.zeros(2, int)}
    boxes = np.array([[20.0, 0, 30, 10], [50, 0, 60, 10], [0, 0, 10, 10]])
    found = {"boxes": boxes, "scores": np.array([0.7, 0.8, 0.9]), "labels": np.zeros(3, int)}
    measured = pooled([match(found, truth)])
    assert measured["map50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert measured["recall"] == 1.0 and measured["precision"] == pytest.approx(2 / 3)


def test_without_objects_nothing_is_known():
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}
    assert all(math.isnan(value) for value in pooled([match(nothing, nothing)]).values())
    assert math.isnan(pooled_ap([match(nothing, nothing)], "map50"))
