"""What a folder holds of a compression."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from lkd.edge.compress import Quantize, Stage
from lkd.edge.compress.resume import Book, mark
from lkd.edge.described import described

from .test_judge import measures


def test_objects_become_plain_data():
    assert described(Quantize(keep_float=["fc"])) == {
        "class": "lkd.edge.compress.quantize.step.Quantize",
        "calibration": 64,
        "method": "percentile",
        "keep_float": ["fc"],
        "sensitivity": True,
    }
    assert described(partial(torch.optim.SGD, lr=0.1)) == {"function": "SGD", "with": {"lr": 0.1}}


def test_a_stage_comes_back_in_another_place(tmp_path):
    """Paths are relative: a folder may be moved."""
    book = Book(tmp_path / "a", {"steps": [1]})
    place = book.place("1 prune")
    (place / "student.onnx").write_bytes(b"onnx")
    (place / "x.ckpt").write_bytes(b"weights")
    stage = Stage("1 prune", place, place / "x.ckpt", [place / "student.onnx"])
    book.finish(stage, "0 parent", measures())
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Book(tmp_path / "b", {"steps": [1]})
    before = mark(replace(stage, files=[tmp_path / "b/1_prune/student.onnx"]))
    found = moved.finished("1 prune", "0 parent")
    assert found is not None
    again, known = found
    assert known == measures() and again.checkpoint == tmp_path / "b/1_prune/x.ckpt" and mark(again) == before
    assert moved.finished("1 prune", "another start") is None
    assert not Path(tmp_path, "b/1_prune").exists()


def test_a_stage_that_was_interrupted_is_not_finished(tmp_path):
    book = Book(tmp_path, {})
    (book.place("1 recover") / "last.ckpt").write_bytes(b"half")
    assert book.finished("1 recover", "0 parent") is None
    assert (tmp_path / "1_recover/last.ckpt").is_file()  # for the step to go on from


def test_anew_deletes_what_was_begun_too(tmp_path):
    """Half of a training by another configuration is nothing to go on from."""
    half, mine = Book(tmp_path, {"data": 1}).place("1 recover"), tmp_path / "mine"
    (half / "begun.json").write_text("{}")
    mine.mkdir()
    Book(tmp_path, {"data": 2}, anew=True)
    assert not half.exists() and mine.is_dir()


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, r"a.b\[1\]: 2 there, 3 here"),
        ({"a": 1}, {"b": 1}, "a: 1 there, null here"),
        ({"steps": [1]}, {"steps": [1, 2]}, r"steps: \[1\] there, \[1, 2\] here"),
    ],
)
def test_another_configuration_is_named(tmp_path, there, here, message):
    Book(tmp_path, there)
    with pytest.raises(ValueError, match=message):
        Book(tmp_path, here)
