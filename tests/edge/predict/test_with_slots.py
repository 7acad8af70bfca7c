"""Clips, tracks and slots from the command line, by a detector that reads its box off the picture."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkd.cli import main

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ..files import detector_file, picture

SLOTS = {"size": [64, 32], "camera": "gate", "slots": {"A1": [[2, 2], [22, 2], [22, 28], [2, 28]], "A2": [[34, 2], [60, 2], [60, 28], [34, 28]]}}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A car that stands in A1, then in A2, as pictures."""
    monkeypatch.chdir(tmp_path)
    detector_file("s.onnx")
    Path("map.json").write_text(json.dumps(SLOTS))
    for number, box in enumerate([(2, 2, 22, 28), (2, 2, 22, 28), (34, 2, 60, 28)]):
        picture(Path(f"in/{number}.png"), box)
    return tmp_path


def call(*options):
    main(["predict", *map(str, options)])


def read(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_occupancy_and_truth(place, capsys):
    Path("truth.csv").write_text("picture,slot,busy\n0,A1,1\n0,A2,0\n2,A1,1\n2,A2,1\n")
    call("in", "--model=s.onnx", "--slots=map.json", "--truth=truth.csv", "--slot_columns", "--folder=out")
    rows = read("out/occupancy.csv")
    assert [(row["free"], row["A1"], row["A2"]) for row in rows] == [
        ("1", "1", "0"),
        ("1", "1", "0"),
        ("1", "0", "1"),
    ]
    assert [(row["slot"], row["to"]) for row in read("out/changes.csv")] == [("A1", "free"), ("A2", "busy")]
    figures = json.loads(Path("out/report.json").read_text())["occupancy"]
    assert figures["compared"] == 4 and figures["accuracy"] == 0.75 and figures["flips"] == 2
    assert "1 of 2 slots are free at the end; 2 flips; accuracy 0.750" in capsys.readouterr().out
    drawn = np.asarray(Image.open("out/pictures/000000_0.jpg"), int)
    assert drawn[15, 34, 1] - drawn[15, 34, 0] > 30  # A2 is free: green


def test_tracks_and_a_clip(place):
    pytest.importorskip("av")
    pytest.importorskip("trackers")
    call("in", "--model=s.onnx", "--track", "--clip", "--folder=out", "--pictures=none")
    assert [row["id"] for row in read("out/boxes.csv")][:2] == ["-1", "0"]
    assert Path("out/annotated.mp4").stat().st_size and not Path("out/pictures").exists()
    call("out/annotated.mp4", "--model=s.onnx", "--folder=again", "--every=2")
    assert [row["frame"] for row in read("again/counts.csv")] == ["0", "2"]
    assert len(list(Path("again/pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--truth=t.csv"], r"truth=t\.csv is of slots: give their map, too"),
        (["--slot_columns"], "slot_columns=True is of slots"),
        (["--slots=map.json", "--slot_camera=yard"], "map of camera 'gate', not of camera='yard'"),
        (["--slots=gone.json"], r"slots='gone.json' does not exist"),
        (
            ["--slots=map.json", "--slot_classes=truck"],
            r"classes=\['truck'\] must be of the detector's classes",
        ),
        (["--slots=other.json"], "of another shape"),
    ],
)
def test_bad_input_before_anything_is_written(place, options, sentence):
    Path("other.json").write_text(json.dumps({**SLOTS, "size": [64, 64]}))
    with pytest.raises(SystemExit, match=sentence):
        call("in", "--model=s.onnx", "--folder=out", *options)
    assert not Path("out").exists()
