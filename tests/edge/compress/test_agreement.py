"""How far a file says what another says."""

import numpy as np
import pytest

from lkd.edge.compress.agreement import Agreement


def found(*rows):
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return {
        "boxes": boxes,
        "scores": np.array([r[4] for r in rows]),
        "labels": np.array([r[5] for r in rows]),
    }


def test_logits_by_the_best_class():
    agreement = Agreement()
    assert agreement.share is None
    agreement.compare({"logits": np.eye(4)}, {"logits": np.eye(4)[[0, 1, 2, 2]]})
    assert agreement.share == 0.75


def test_boxes_by_f1():
    agreement = Agreement()
    box, half, far = (0, 0, 10, 10), (0, 0, 10, 6), (50, 50, 60, 60)
    agreement.compare_detections(
        [found((*box, 0.9, 0), (*far, 0.8, 0), (*far, 0.1, 1))],  # the last is no confident one
        [found((*half, 0.7, 0), (*far, 0.6, 1))],  # another class
        0,
    )
    assert agreement.share == pytest.approx(2 * 1 / 4)


def test_one_box_is_the_partner_of_one():
    agreement = Agreement()
    box = (0, 0, 10, 10)
    agreement.compare_detections([found((*box, 0.9, 0), (*box, 0.8, 0))], [found((*box, 0.9, 0))], 0)
    assert agreement.share == pytest.approx(2 / 3)
    agreement.compare_detections([found()], [found()], 0)
    assert agreement.share == pytest.approx(2 / 3)


def test_raw_boxes_are_suppressed_first():
    agreement = Agreement()
    raw = {
        "boxes": np.array([[[0, 0, 9, 9], [0, 0, 9, 8]]], np.float32),
        "scores": np.array([[[0.9], [0.8]]]),
    }
    agreement.compare(raw, raw)
    assert agreement.share == 1 and agreement.all == 2


def test_a_box_of_two_classes_counts_twice_where_the_detector_says_so():
    """As the file's suppression has it, beside the file as inside of it."""
    one = {"boxes": np.array([[[0, 0, 9, 9]]], np.float32), "scores": np.array([[[0.9, 0.8]]])}
    other = {"boxes": one["boxes"], "scores": np.array([[[0.9, 0.1]]])}
    several, best = Agreement(multi_label=True), Agreement()
    several.compare(one, other)
    best.compare(one, other)
    assert (several.share, several.all) == (pytest.approx(2 / 3), 3) and (best.share, best.all) == (1, 2)
