"""`predict SOURCE --reuse`, by a detector that reads its box off the picture."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkd.cli import main

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ...files import detector_file

LEFT, RIGHT = (2, 2, 22, 28), (34, 2, 60, 28)
SLOTS = {"size": [64, 32], "camera": "gate", "slots": {"A1": [[2, 2], [22, 2], [22, 28], [2, 28]], "A2": [[34, 2], [60, 2], [60, 28], [34, 28]]}}  # fmt: skip


def picture(path, box, score=204):
    """A bright car at a box, which the first pixels name."""
    pixels = np.full((32, 64, 3), 60, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 200
    pixels[0, :5, 0] = [*box, score]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A car that stands for six seconds and then moves over; numbers in natural order, not that of text."""
    monkeypatch.chdir(tmp_path)
    detector_file("s.onnx")
    Path("map.json").write_text(json.dumps(SLOTS))
    for second in range(6, 14):
        picture(Path(f"in/gate_{second}.png"), LEFT if second < 12 else RIGHT)
    return tmp_path


def call(*options, source="in", reuse="{step_s: 1}"):
    main(["predict", source, "--model=s.onnx", "--folder=out", "--pictures=none", "--reuse", reuse, *options])
    return json.loads(Path("out/report.json").read_text())


def read(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_still_frames_are_one_run_and_a_car_that_moves_is_another(place, capsys):
    report = call("--audit=0")["reuse"]
    rows = read("out/reuse.csv")
    assert [Path(row["source"]).stem for row in rows] == [f"gate_{second}" for second in range(6, 14)]
    assert [row["answer"] for row in rows] == ["computed", *["reused"] * 5, "computed", "reused"]
    assert [row["age_s"] for row in rows] == ["", "1.0", "2.0", "3.0", "4.0", "5.0", "", "1.0"]
    assert [float(row["x1"]) for row in read("out/boxes.csv")] == [2.0] * 6 + [34.0] * 2
    assert report["reused"] == 6 and report["computed"] == 2 and report["share_reused"] == 0.75
    assert report["longest_age_s"] == 5.0 and report["agreement"] is None
    assert report["saved_s"] == pytest.approx(6 * report["computed_ms"] / 1e3 - 8 * report["look_ms"] / 1e3)
    shown = capsys.readouterr().out
    assert "reuse: 6 of 8 frames (75 %) were given an earlier answer, up to 5.0 s old" in shown
    assert "nothing was audited, so nobody knows how many of them were right" in shown


def test_an_answer_lives_for_its_time(place):
    assert call("--audit=0", reuse="{step_s: 1, ttl_s: 2}")["reuse"]["computed"] == 3  # at 6, 9 and 12


def test_what_came_too_late_is_not_called_a_scene_that_moves(place, capsys):
    report = call("--audit=0", reuse="{step_s: 300}")["reuse"]
    assert (report["reused"], report["computed"], report["too_old"], report["cameras"]) == (0, 8, 6, 1)
    shown = capsys.readouterr().out
    assert "6 looked like the kept one and came later than ttl_s=60, which would have to be longer" in shown
    assert "never stood still" not in shown


def test_a_truth_by_numbers_is_refused_where_pictures_are_put_in_another_order(place):
    Path("truth.csv").write_text("frame,slot,busy\n0,A1,1\n")
    options = ["--slots=map.json", "--truth=truth.csv"]
    for second in (7, 9):  # of a second camera, in between
        Path(f"in/gate_{second}.png").rename(f"in/gate_{second}a.png")
    with pytest.raises(
        SystemExit, match=r"other numbers than those of truth='truth\.csv': give a table with"
    ):
        call(*options)
    assert not Path("out").exists()
    for second in (7, 9):
        Path(f"in/gate_{second}a.png").unlink()
    assert call(*options)["occupancy"]["compared"] == 1  # the others are in the same order either way


def test_sizes_are_checked_of_the_pictures_that_every_takes(place):
    Image.open("in/gate_9.png").resize((128, 64)).save("in/gate_9.png")  # 4th by time
    with pytest.raises(SystemExit, match=r"gate_9\.png is a picture of 128x64"):
        call("--clip", "--every=3")
    assert not Path("out").exists()


def test_tracks_of_what_is_not_watched_are_refused(place):
    with pytest.raises(SystemExit, match="track=bytetrack follows what moves, and with --reuse"):
        call("--track", "--slots=map.json", reuse="{step_s: 1, where: slots}")


def test_transparency_is_no_change_and_a_camera_that_turns_to_gray_is_one(place):
    for second, mode in ((7, "RGBA"), (10, "L"), (11, "LA")):
        Image.open(f"in/gate_{second}.png").convert(mode).save(f"in/gate_{second}.png")
    call("--audit=0")
    answers = [row["answer"] for row in read("out/reuse.csv")]
    assert answers == ["computed", *["reused"] * 3, "computed", "reused", "computed", "reused"]


def test_without_reuse_nothing_of_it_is_there(place):
    main(["predict", "in", "--model=s.onnx", "--folder=out", "--pictures=none"])
    assert "reuse" not in json.loads(Path("out/report.json").read_text())
    assert not Path("out/reuse.csv").exists()


def test_cameras_are_scenes_of_their_own(place):
    for second in range(6, 14):
        picture(Path(f"in/yard_{second}.png"), RIGHT)
    report = call("--audit=0")["reuse"]
    assert report["computed"] == 3 and report["reused"] == 13 and report["cameras"] == 2


def test_audits_say_what_reuse_costs_and_change_nothing_of_a_still_scene(place):
    report = call("--audit=1")["reuse"]
    assert report["audited"] == 6 and report["reused"] == 0 and report["agreement"] == 1.0
    assert report["longest_age_s"] == 5.0  # the kept answer stays the kept one
    assert [row["agreement"] for row in read("out/reuse.csv")] == ["", *["1.0"] * 5, "", "1.0"]


def test_a_scene_that_moves_more_than_the_distance_tells_is_noticed_and_reuse_stops(place, capsys):
    for second in range(6, 30):  # two places by turns, which a limit of 250 takes for the same
        picture(Path(f"in/gate_{second}.png"), LEFT if second % 2 else RIGHT)
    report = call("--audit=1", reuse="{step_s: 1, distance: 250}")["reuse"]
    assert report["stopped"] == 18 and report["audited"] == 5  # the first one is computed, five do not agree
    (sentence,) = report["stopped_because"]
    assert "reuse stopped at frame 5 of in/gate_11.png: of the latest" in sentence
    assert "0.00 agreed, less than agree=0.9; the scene moves more than distance=250 tells" in sentence
    shown = capsys.readouterr()
    assert f"warning: {sentence}" in shown.err and sentence in shown.out
    boxes = [float(row["x1"]) for row in read("out/boxes.csv")]
    assert boxes == [
        2.0 if second % 2 else 34.0 for second in range(6, 30)
    ]  # audited ones are given out fresh


def test_slots_the_price_and_the_truth(place, capsys):
    rows = [
        f"gate_{second},A1,{int(second < 9)}" for second in range(6, 12)
    ]  # somebody notes that it left at 9
    Path("truth.csv").write_text("\n".join(["picture,slot,busy", *rows]) + "\n")
    report = call("--audit=1", "--slots=map.json", "--truth=truth.csv")
    assert report["occupancy"]["accuracy"] == 0.5
    assert report["reuse"]["slots_alike"] == 1.0 and report["reuse"]["states_compared"] == 5
    assert report["reuse"]["accuracy_reused"] == report["reuse"]["accuracy_fresh"] == pytest.approx(2 / 5)
    assert "slots alike 1.000; accuracy of their slots 0.400 reused, 0.400 fresh" in capsys.readouterr().out


def test_slots_alone_are_watched(place, capsys):
    for second in range(6, 14):
        picture(Path(f"in/gate_{second}.png"), LEFT)
        pixels = np.asarray(Image.open(f"in/gate_{second}.png")).copy()
        pixels[29:, 8 * (second - 6) : 8 * (second - 5)] = 250  # a thing that goes along the lower edge
        Image.fromarray(pixels).save(f"in/gate_{second}.png")
    one = call("--audit=0", "--slots=map.json", reuse="{step_s: 1, where: slots}")["reuse"]
    Path("out").rename("first")
    whole = call("--audit=0", "--slots=map.json")["reuse"]
    assert one["computed"] == 1 and whole["computed"] == 8
    assert "the scene never stood still for distance=16: the median change was" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reuse", "sentence"),
    [
        ([], "{}", r"in/gate_6\.png has a number and no date with a time in its name"),
        ([], "{step_s: 1, distance: 300}", r"distance=300.0 must be in \[0, 255\): it is in levels of 255"),
        ([], "{step_s: 1, where: slots}", "where=slots watches slots: give their map, too"),
        (["--audit=2"], "{step_s: 1}", r"audit=2.0 must be in \[0, 1\]: it is a share of the reused answers"),
    ],
)
def test_bad_input_before_anything_is_written(place, options, reuse, sentence):
    with pytest.raises(SystemExit, match=sentence):
        call(*options, reuse=reuse)
    assert not Path("out").exists()


def test_an_unknown_word_and_an_audit_of_nothing(place, capsys):
    with pytest.raises(SystemExit):
        call(reuse="{distanc: 3}")
    assert "'distanc: 3' is none of distance, ttl_s" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"audit=0\.5 is of reused answers: give --reuse, too"):
        main(["predict", "in", "--model=s.onnx", "--audit=0.5"])


def test_a_clip_has_times(place):
    pytest.importorskip("av")
    from lkd.edge.predict.clips.clip_writer import ClipWriter

    still = np.full((32, 64, 3), 60, np.uint8)
    writer = ClipWriter(Path("a.mp4"), (64, 32), 2.0)
    for number in range(6):
        writer.write(still, number / 2)
    writer.close()
    report = call("--audit=0", source="a.mp4", reuse="{ttl_s: 1}")["reuse"]
    assert report["frames"] == 6 and report["computed"] == 2
