"""Answers of a student and a teacher, drawn."""

import numpy as np

from lkd.edge.offload.answers import Answers

SIZE = (60, 100)


def objects(random, count):
    corner = random.uniform((0, 0), (80, 45), (count, 2))
    return {"boxes": np.hstack([corner, corner + np.array([18, 12])]), "labels": np.zeros(count, int)}


def seen(random, truth, share, spread=1.0):
    """Boxes of a share of the objects, and two of nothing."""
    kept = random.random(len(truth["labels"])) < share
    loose = random.uniform((0, 0), (90, 50), (2, 2))
    boxes = truth["boxes"][kept] + random.normal(0, spread, (kept.sum(), 4))
    boxes = np.vstack([boxes, np.hstack([loose, loose + 8])]).astype(np.float32)
    scores = np.concatenate([random.uniform(0.3, 0.95, kept.sum()), random.uniform(0.01, 0.6, 2)])
    return {"boxes": boxes, "scores": scores.astype(np.float32), "labels": np.zeros(len(scores), np.int64)}


def of_boxes(seed=0, count=40, cameras=("far", "near"), labeled=True):
    """The student misses most at the first camera and little at the second; the teacher misses little anywhere."""
    random = np.random.default_rng(seed)
    names = [cameras[n * len(cameras) // count] for n in range(count)]
    truth = [objects(random, random.integers(1, 7)) for _ in names]
    local = [
        seen(random, t, 0.3 if name == cameras[0] else 0.9) for t, name in zip(truth, names, strict=True)
    ]
    remote = [[seen(random, t, 0.97, 0.3)] for t in truth]
    return answers(local, remote, names, truth if labeled else None, random)


def of_classes(seed=0, count=200, classes=4, labeled=True):
    """The student errs where it is unsure; the teacher never does."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    sure = random.uniform(0, 4, count)
    logits = random.normal(0, 1, (count, classes))
    logits[np.arange(count), labels] += sure
    local = [{"probabilities": np.exp(row) / np.exp(row).sum()} for row in logits]
    right = np.eye(classes)[labels] * 0.96 + 0.01
    truth = [{"label": np.array([label])} for label in labels]
    return answers(
        local, [[{"probabilities": row}] for row in right], [""] * count, truth if labeled else None, random
    )


def answers(local, remote, cameras, truth, random):
    shape = len(local), len(remote[0])
    return Answers(
        local,
        remote,
        np.tile(SIZE, (shape[0], 1)),
        random.integers(2_000, 9_000, shape),
        np.full(shape[0], 5.0),
        np.full(shape, 20.0),
        cameras,
        truth,
    )
