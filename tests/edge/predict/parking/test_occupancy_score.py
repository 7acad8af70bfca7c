import csv
import os
from pathlib import Path

import numpy as np
import pytest

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.parking.occupancy import Occupancy
from lkd.edge.predict.parking.occupancy_files import OccupancyFiles
from lkd.edge.predict.parking.occupancy_score import OccupancyScore
from lkd.edge.predict.parking.slots import Slots
from lkd.edge.predict.parking.truth import Truth

from .test_occupancy import cars, frame, lot

LABELS = """SUNNY/2015-11-12/camera1/S_2015-11-12_07.09_C01_603.jpg 1
SUNNY/2015-11-12/camera1/S_2015-11-12_07.09_C01_604.jpg 0
SUNNY/2015-11-12/camera2/S_2015-11-12_07.09_C02_603.jpg 0
"""
SPACE = '<space id="A{}"{}><contour><point x="1" y="1"/><point x="9" y="1"/><point x="9" y="9"/></contour></space>'


def known(tmp_path, text, slots=None, name="truth.csv"):
    (tmp_path / name).write_text(text)
    return Truth.read(tmp_path / name, slots or lot(2))


def test_a_table_says_it_by_picture_by_frame_or_from_a_time_on(tmp_path):
    by_picture = known(tmp_path, "picture,slot,busy\nx/a.jpg,A0,1\na.jpg,A1,free\nb.jpg,A0,busy\n")
    assert by_picture.of(frame(source="/data/a.png")) == {"A0": True, "A1": False}
    assert by_picture.of(frame(source="b.jpg")) == {"A0": True} and by_picture.of(frame(source="c.jpg")) == {}
    by_frame = known(tmp_path, "frame,slot,busy\n0,A0,1\n7,A0,0\n7,B9,0\n")
    assert by_frame.of(frame(7)) == {"A0": False} and by_frame.of(frame(1)) == {} and by_frame.left_out == 1
    by_time = known(tmp_path, "slot,busy,time\nA0,0,0\nA1,1,0.5\nA0,1,2.5\n")
    seen = [by_time.of(frame(n, time)) for n, time in enumerate([0.0, 1.0, 2.0, 3.0])]
    assert seen == [{"A0": False}, *[{"A0": False, "A1": True}] * 2, {"A0": True, "A1": True}]


def test_lists_of_cnrpark_are_of_the_map_s_camera(tmp_path):
    (tmp_path / "camera1.csv").write_text("SlotId,X,Y,W,H\n603,0,0,240,240\n604,240,0,240,240\n")
    slots = Slots.read(tmp_path / "camera1.csv")
    truth = known(tmp_path, LABELS, slots, "all.txt")
    assert truth.of(frame(source="FULL/SUNNY/2015-11-12/camera1/2015-11-12_0709.jpg")) == {
        "603": True,
        "604": False,
    }
    assert truth.of(frame(source="2015-11-12_0739.jpg")) == {}
    with pytest.raises(ValueError, match="does not say of which of its cameras it is"):
        Truth.read(tmp_path / "all.txt", lot())


def test_files_of_pklot_are_of_the_picture_of_their_name(tmp_path):
    for name, states in (("a", (' occupied="1"', "")), ("b", (' occupied="0"', ' occupied="1"'))):
        spaces = "".join(SPACE.format(number, state) for number, state in enumerate(states))
        (tmp_path / f"{name}.xml").write_text(f"<parking>{spaces}</parking>")
    truth = Truth.read(tmp_path, lot(2))
    assert truth.of(frame(source="frames/a.jpg")) == {"A0": True}
    assert truth.of(frame(source="frames/b.jpg")) == {"A0": False, "A1": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,slot\na,A0\n", "has the columns picture, slot; a table has slot, busy, and one of"),
        ("picture,time,slot,busy\na,1,A0,1\n", "a table has slot, busy, and one of"),
        ("frame,slot,busy\n0,A0,2\n", "line 2: busy='2' must be 0 or 1, free or busy"),
        ("frame,slot,busy\nfirst,A0,1\n", "line 2: frame='first' is no number"),
        ("frame,slot,busy\n0,A0,1\n0,A0,0\n", "line 3: slot A0 is both free and busy at frame 0"),
        ("frame,slot,busy\n0,P1,1\n", r"says nothing of the slots of map\.json \(A0, A1, \.\.\.\)"),
    ],
)
def test_a_truth_that_is_none_is_refused(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        known(tmp_path, text)


def test_figures_are_what_counting_says(tmp_path):
    truth = known(tmp_path, "frame,slot,busy\n0,A0,1\n0,A1,0\n1,A0,1\n1,A1,1\n2,A0,0\n2,A1,1\n")
    occupancy = Occupancy(lot(2), dwell=0)
    score = OccupancyScore(occupancy, truth)
    for number, shares in enumerate([(1, 0), (0, 0), (1, 1)]):
        now = frame(number, 1800.0 * number)
        score.add(now, occupancy.update(now, cars(*shares)))
    # said: 10, 00, 11; true: 10, 11, 01
    assert score.figures() == {
        "compared": 6,
        "accuracy": 3 / 6,
        "balanced_accuracy": (2 / 4 + 1 / 2) / 2,
        "busy_called_free": 2,
        "free_called_busy": 1,
        "hours": 1.0,
        "flips": 3,  # A0 free, A0 busy, A1 busy
        "flips_per_hour": 3.0,
        "wrong_flips": 2,  # A0 twice
        "true_flips": 2,
    }


def test_without_truth_and_times_nothing_is_made_up():
    occupancy = Occupancy(lot(2))
    score = OccupancyScore(occupancy)
    score.add(frame(), occupancy.update(frame(), cars(1)))
    figures = score.figures()
    assert figures.pop("compared") == figures.pop("flips") == 0 and set(figures.values()) == {None}


def test_the_tables_are_whole_after_each_frame_and_after_ctrl_c(tmp_path):
    occupancy = Occupancy(lot(2), dwell=0)
    with pytest.raises(KeyboardInterrupt), OccupancyFiles(tmp_path / "new", occupancy, wide=True) as files:
        for number, shares in enumerate([(1, 0), (1, 1), (0, 1)]):
            now = Frame("a,b.mp4", number, number / 8, np.zeros((40, 100, 3), np.uint8))
            files.write(now, occupancy.update(now, cars(*shares)))
            assert (tmp_path / "new/occupancy.csv").read_text().count("\n") == number + 2
        raise KeyboardInterrupt
    frames, changes = (
        list(csv.reader((tmp_path / f"new/{name}.csv").open())) for name in ("occupancy", "changes")
    )
    assert frames[0] == ["source", "frame", "time", "slots", "busy", "free", "A0", "A1"]
    assert frames[2] == ["a,b.mp4", "1", "0.125", "2", "2", "0", "1", "1"]
    assert changes == [
        ["source", "frame", "time", "slot", "from", "to"],
        ["a,b.mp4", "1", "0.125", "A1", "free", "busy"],
        ["a,b.mp4", "2", "0.250", "A0", "busy", "free"],
    ]


def test_real_slots_with_the_boxes_of_their_busy_ones_are_all_right():
    root = Path(os.environ.get("LKD_DATA", "data")) / "cnrpark_ext"
    labels = sorted(root.glob("labels_yolo/camera8_*.txt"))
    if not labels:
        pytest.skip(f"no {root}/labels_yolo")
    slots = Slots.read(root / "camera8.csv", (1000, 750), "camera8")
    truth = Truth.read(next(root.glob("all*.txt.gz")), slots)
    rows = np.loadtxt(labels[0])
    middle, side = rows[rows[:, 0] == 1, 1:3] * slots.size, rows[rows[:, 0] == 1, 3:5] * slots.size
    found = {
        "boxes": np.concatenate([middle - side / 2, middle + side / 2], 1),
        "scores": np.ones(len(middle)),
    }
    source = f"{labels[0].stem.removeprefix('camera8_')}.jpg"
    now, occupancy = Frame(source, 0, None, np.zeros((750, 1000, 3), np.uint8)), Occupancy(slots)
    score = OccupancyScore(occupancy, truth)
    score.add(now, occupancy.update(now, found))
    figures = score.figures()
    assert figures["compared"] == 54 and figures["accuracy"] == 1 and 0 < occupancy.free < 54
