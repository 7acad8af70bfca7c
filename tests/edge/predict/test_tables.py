import csv
import json

import numpy as np

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.tables import BoxFiles, ProbabilityFile


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def frame(source='odd, "name".png', number=0, time=None):
    return Frame(source, number, time, np.zeros((40, 60, 3), np.uint8))


def found(*labels, **more):
    count = len(labels)
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    return {
        "boxes": boxes,
        "scores": np.linspace(0.9, 0.5, count),
        "labels": np.array(labels, np.int64),
        **more,
    }


def test_boxes_lines_and_counts(tmp_path):
    files = BoxFiles(tmp_path, ["car", "bus, red"])
    files.write(frame(), found(1, 0, 1))
    files.write(frame("b.png", 1, 2.5), found())
    lines = [
        json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()
    ]  # before the end
    files.close()
    boxes, counts = rows(tmp_path / "boxes.csv"), rows(tmp_path / "counts.csv")
    assert [row["class"] for row in boxes] == ["bus, red", "car", "bus, red"]
    assert boxes[1] == {
        "source": 'odd, "name".png', "frame": "0", "time": "", "class": "car", "score": "0.7",
        "x1": "4.0", "y1": "5.0", "x2": "6.0", "y2": "7.0",
    }  # fmt: skip
    assert (
        [row["n_bus, red"] for row in counts] == ["2", "0"]
        and counts[1]["all"] == "0"
        and counts[1]["time"] == "2.5"
    )
    assert lines[0]["boxes"][0] == {"class": "bus, red", "score": 0.9, "box": [0.0, 1.0, 2.0, 3.0]}
    assert lines[1] == {"source": "b.png", "frame": 1, "time": 2.5, "width": 60, "height": 40, "boxes": []}


def test_tracks(tmp_path):
    files = BoxFiles(tmp_path, ["car"], tracks=True)
    files.write(frame(), found(0, 0, ids=np.array([7, -1])))
    files.close()
    assert [row["id"] for row in rows(tmp_path / "boxes.csv")] == ["7", "-1"]
    assert json.loads((tmp_path / "boxes.jsonl").read_text())["boxes"][0]["id"] == 7


def test_probabilities(tmp_path):
    files = ProbabilityFile(tmp_path, ["cat", "dog"])
    files.write(frame(), {"probabilities": np.array([0.25, 0.75])})
    files.close()
    (row,) = rows(tmp_path / "predictions.csv")
    assert row["class"] == "dog" and row["probability"] == "0.75" and row["p_cat"] == "0.25"
