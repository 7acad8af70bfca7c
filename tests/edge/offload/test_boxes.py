"""Which boxes stand, and what a teacher would bring, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from lkd.edge.offload.boxes import Boxes
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


def test_the_gain_is_by_how_much_the_teacher_is_surer():
    local = found((0, 0, 10, 10, 0.9), (50, 0, 60, 10, 0.2))  # the student is surer of the first
    remote = found((1, 0, 11, 10, 0.8), (50, 0, 60, 10, 0.7), (80, 0, 90, 10, 0.6), (0, 40, 9, 50, 0.1))
    assert Boxes().gain(frame(local, remote))[0] == pytest.approx([0.7 - 0.2 + 0.6])  # the last is too faint
    other = {**remote, "labels": np.array([1, 0, 0, 0])}  # of another class
    assert Boxes().gain(frame(local, other))[0] == pytest.approx([0.7 - 0.2 + 0.6 + 0.8])


def test_the_gain_of_a_tile_is_of_its_core():
    tiles = Tiles(2, 1, overlap=10)  # crops begin at 0 and at 40
    left = found((5, 0, 15, 10, 0.9), (48, 0, 58, 10, 0.9))  # the second is centered in the other core
    right = found((2, 0, 9, 9, 0.9))  # at 42 to 49, in the first core
    assert Boxes(tiles).gain(frame(found(), left, right))[0] == pytest.approx([0.9, 0.0])


def test_which_boxes_stand():
    local, remote = found((0, 0, 10, 10, 0.9)), found((1, 0, 11, 10, 0.8))
    made = frame(local, remote)
    assert Boxes().stands(made, 0, np.array([False])) is local
    assert Boxes().stands(made, 0, np.array([True]))["scores"].tolist() == remote["scores"].tolist()
    scaled = Boxes(scale=Scale(np.array([0.8]), np.array([0.5]))).stands(made, 0, np.array([True]))
    assert scaled["scores"] == pytest.approx([0.5], abs=1e-5)


def test_of_tiles_those_that_were_sent():
    local = found((5, 0, 15, 10, 0.5), (70, 0, 80, 10, 0.4))
    made = frame(local, found((5, 0, 15, 10, 0.9)), found((31, 0, 41, 10, 0.8)))
    task = Boxes(Tiles(2, 1, overlap=10))
    assert task.stands(made, 0, np.array([False, False])) is local
    right = task.stands(made, 0, np.array([False, True]))
    assert sorted(right["scores"].tolist()) == pytest.approx([0.5, 0.8])
    assert right["boxes"][right["scores"].argmax()].tolist() == [71, 0, 81, 10]


def test_features_are_finite_and_of_each_tile():
    made = of_boxes(count=4)
    plain = Boxes().features(made)
    assert plain.shape[:2] == (4, 1) and np.isfinite(plain).all()
    tiled = Boxes(Tiles(3, 2)).features(replace(made, nbytes=np.ones((4, 6), int)))
    assert tiled.shape == (4, 6, plain.shape[2]) and np.isfinite(tiled).all()
    assert np.array_equal(tiled[:, :, 0].sum(1), plain[:, 0, 0])  # each box is of one tile


def test_a_frame_without_boxes_has_features():
    assert np.isfinite(Boxes().features(frame(found(), found()))).all()
