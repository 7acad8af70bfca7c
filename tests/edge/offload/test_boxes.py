"""Which boxes stand, and what a teacher would bring, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.scale import Scale
from lkd.edge.offload.tiles import Tiles

from .drawn import of_boxes


def found(*rows):
    table = np.array(rows, np.float32).reshape(-1, 5)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": np.zeros(len(table), np.int64)}


def frame(local, *remote):
    made = of_boxes(count=1)
    shape = 1, len(remote)
    return replace(
        made, local=[local], remote=[list(remote)], nbytes=np.ones(shape, int), server_ms=np.ones(shape)
    )


def test_the_gain_is_how_much_surer_the_teacher_is():
    local = found((0, 0, 10, 10, 0.9), (50, 0, 60, 10, 0.2))
    # seen as well, seen faintly, not seen at all, and not seen by the teacher either
    remote = found((1, 0, 11, 10, 0.8), (50, 0, 60, 10, 0.7), (80, 0, 90, 10, 0.6), (0, 40, 9, 50, 0.1))
    assert BoxTask().gain(frame(local, remote))[0] == pytest.approx([0.0 + 0.5 + 0.6])
    other = {**remote, "labels": np.array([1, 0, 0, 0])}  # of another class
    assert BoxTask().gain(frame(local, other))[0] == pytest.approx([0.8 + 0.5 + 0.6])


def test_the_gain_of_a_tile_is_of_the_boxes_that_would_stand():
    tiles = Tiles(2, 1, overlap=10)  # crops are 0 to 60 and 40 to 100
    left = found(
        (5, 0, 15, 10, 0.9), (51, 0, 57, 10, 0.9), (39, 0, 59, 10, 0.9)
    )  # of the other core, and cut
    right = found((2, 0, 7, 9, 0.9))  # at 42 to 47, in the first core
    assert BoxTask(tiles).gain(frame(found(), left, right))[0] == pytest.approx([0.9, 0.0])


def test_which_boxes_stand():
    local, remote = found((0, 0, 10, 10, 0.9)), found((1, 0, 11, 10, 0.8))
    made = frame(local, remote)
    assert BoxTask().stands(made, 0, np.array([False])) is local
    assert BoxTask().stands(made, 0, np.array([True]))["scores"].tolist() == remote["scores"].tolist()
    scaled = BoxTask(scale=Scale(np.array([0.8]), np.array([0.5]))).stands(made, 0, np.array([True]))
    assert scaled["scores"] == pytest.approx([0.5], abs=1e-5)


def test_of_tiles_those_that_were_sent():
    local = found((5, 0, 15, 10, 0.5), (70, 0, 80, 10, 0.4))
    made = frame(local, found((5, 0, 15, 10, 0.9)), found((31, 0, 41, 10, 0.8)))
    task = BoxTask(Tiles(2, 1, overlap=10))
    assert task.stands(made, 0, np.array([False, False])) is local
    right = task.stands(made, 0, np.array([False, True]))
    assert sorted(right["scores"].tolist()) == pytest.approx([0.5, 0.8])
    assert right["boxes"][right["scores"].argmax()].tolist() == [71, 0, 81, 10]


def test_features_are_finite_and_each_box_is_of_one_tile():
    made = of_boxes(count=4)
    plain = BoxTask().features(made)
    assert plain.shape[:2] == (4, 1) and np.isfinite(plain).all()
    tiled = BoxTask(Tiles(3, 2)).features(replace(made, nbytes=np.ones((4, 6), int)))
    assert tiled.shape == (4, 6, plain.shape[2])
    assert np.array_equal(tiled[:, :, 0].sum(1), plain[:, 0, 0])


def test_a_frame_without_boxes_has_features():
    assert np.isfinite(BoxTask().features(frame(found(), found()))).all()
