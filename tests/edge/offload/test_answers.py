"""Answers are read as they were written, or refused."""

import numpy as np
import pytest

from lkd.edge.offload.answers import Answers, joined

from .drawn import of_boxes, of_classes


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])


@pytest.mark.parametrize("made", [of_boxes(count=5), of_classes(count=5)])
def test_what_is_read_is_what_was_written(made, tmp_path):
    made.save(tmp_path / "a.safetensors")
    read = Answers.load(tmp_path / "a.safetensors")
    assert len(read) == 5 and read.units == 1 and read.truth is None
    for n in range(5):
        same(read.local[n], made.local[n])
        same(read.remote[n][0], made.remote[n][0])
    assert np.array_equal(read.nbytes, made.nbytes) and np.array_equal(read.sizes, made.sizes)
    assert not [*tmp_path.glob("*.part")]


def test_parts_are_one_split(tmp_path):
    one, other = of_boxes(0, 3), of_boxes(1, 2)
    both = joined([one, other], [*one.cameras, *other.cameras], [*one.truth, *other.truth])
    assert len(both) == 5 and both.nbytes.shape == (5, 1)
    same(both.local[4], other.local[1])
    same(both.remote[3][0], other.remote[0][0])


def test_frames_without_a_box(tmp_path):
    made = of_boxes(count=2)
    none = {name: rows[:0] for name, rows in made.local[0].items()}
    empty = Answers([none, none], [[none], [none]], made.sizes, made.nbytes, made.device_ms, made.server_ms)
    empty.save(tmp_path / "a.safetensors")
    assert Answers.load(tmp_path / "a.safetensors").local[1]["boxes"].shape == (0, 4)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    of_boxes(count=3).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged .*: delete it"):
        Answers.load(path)
