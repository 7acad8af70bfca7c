"""Reuse before the gate: still scenes cost no message, final answers are taken, and moving scenes are noticed."""

import shutil

import numpy as np
import pytest
from PIL import Image

from lkd.datamodules import YoloFolder
from lkd.edge.offload import Budget, Link, Payload, Random, offload
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.frames import FrameAnswerSource
from lkd.edge.offload.reused import with_reuse
from lkd.edge.offload.trial import Conditions, Trial
from lkd.edge.predict.reuse.asked import Reuse
from lkd.teachers import Teacher

from ...roads import oracle, write_roads
from ..files import detector_file
from .test_frames import PNG, Blind

STILL = Reuse(step_s=1.0, ttl_s=100.0)


@pytest.fixture
def root(tmp_path):
    """Camera A stands still for six frames at a time; at camera B pale cars move, which the grid does not see."""
    made = write_roads(tmp_path / "roads", count=24, cars=3)
    for i in range(24):
        for folder, end in (("images", "png"), ("labels", "txt")):
            if i % 6 != 2:  # frames 2, 8, 14 and 20 have three cars
                shutil.copy(made / folder / f"camA_{i - i % 6 + 2}.{end}", made / folder / f"camA_{i}.{end}")
        gray = np.full((96, 128, 3), 150, np.uint8)
        x = 5 * (i % 12)
        gray[40:60, x : x + 20] = 158
        Image.fromarray(gray).save(made / "images" / f"camB_{i}.png")
        (made / "labels" / f"camB_{i}.txt").write_text(f"0 {(x + 10) / 128} {50 / 96} {20 / 128} {20 / 96}")
    return made


def data(root):
    return YoloFolder(root=str(root), image_size=128, fractions=(0.5, 0.0, 0.5))


def trials(root, conditions):
    student = Blind()
    source = FrameAnswerSource(lambda camera: student, Teacher(oracle), data(root), PNG, BoxTask(), 128)
    task = source.task
    return source, *(
        Trial(task, source.answers(split, root / "answers"), conditions) for split in ("calibration", "test")
    )


def measured(root, asked=STILL, link=None):
    """The operating point at which all is sent, that with reuse, and what is said."""
    source, calibration, test = trials(root, Conditions(link or Link(8.0)))
    sent = [np.ones((len(t.answers), 1), bool) for t in (calibration, test)]
    before = test.point("all", sent[1])
    return before, *with_reuse(asked, source, calibration, test, sent, before, "map50")


def test_a_still_scene_takes_the_servers_answer_for_no_bytes_and_a_moving_one_is_noticed(root):
    before, after, notes = measured(root)
    assert before.rate == 1.0 and before.reused == 0.0
    # of 24 test frames, camera B's 12 are all sent; of camera A's two scenes all but the first and the audited
    assert 12 + 2 <= round(24 * after.rate) < 12 + 6 and after.reused == pytest.approx(1 - after.rate)
    assert after.kb < 0.8 * before.kb and after.p50_ms < before.p95_ms
    assert after.metrics["map50"] == pytest.approx(
        before.metrics["map50"], abs=1e-9
    )  # the teacher's, not the student's
    assert "Reuse stopped for 1 of 2 cameras by the calibration data" in notes[0] and "(camB 0." in notes[0]
    count = round(24 * after.reused)
    assert (
        notes[-1].startswith(f"Reuse: {count} of 24 test frames")
        and "Requests 100.0% without and" in notes[-1]
    )


def test_what_was_not_sent_is_taken_as_it_stood(root):
    """Of camera A's first test scene the first frame is not sent, so all of it has the student's one box."""
    source, calibration, test = trials(root, Conditions(Link(8.0)))
    sent = [np.ones((len(t.answers), 1), bool) for t in (calibration, test)]
    sent[1][0] = False
    quiet = Reuse(step_s=1.0, ttl_s=100.0, seed=1)
    point, _ = with_reuse(quiet, source, calibration, test, sent, test.point("all", sent[1]), "map50")
    assert point.metrics["map50"] < test.point("all", sent[1]).metrics["map50"] - 0.05


def test_a_scene_that_moves_everywhere_is_measured_without_reuse(root):
    for path in root.glob("*/camA_*"):
        path.unlink()
    before, point, notes = measured(root)
    assert point is None and before.rate == 1.0
    assert len(notes) == 1 and "Reuse stopped for 1 of 1 cameras" in notes[0]


def test_a_lost_message_leaves_the_students_answer_to_those_that_take_it(root):
    before, after, _ = measured(root, link=Link(8.0, loss=1.0, deadline_ms=100.0))
    assert before.failed == 1.0 and after.failed < 0.8
    assert after.metrics["map50"] == pytest.approx(before.metrics["map50"], abs=1e-9)  # the same box of both


def test_an_old_answer_is_not_taken(root):
    _, after, notes = measured(root, Reuse(step_s=1.0, ttl_s=0.5))
    assert after.reused == 0.0 and after.rate == 1.0 and "Reuse: 0 of 24 test frames" in notes[-1]


def test_the_report_has_both_rows(root, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    made = detector_file(tmp_path / "student.onnx", threshold=0.0)
    given = {
        "payload": Payload("png"),
        "budget": Budget(rate=1.0),
        "gate": Random(),
        "draws": 1,
        "link": Link(8.0),
    }
    given |= {"exported": str(made), "folder": str(tmp_path / "out")}
    point = offload(None, data(root), None, Teacher(oracle), reuse=STILL, **given)
    table = (tmp_path / "out/points.md").read_text()
    assert point.arm == "random" and point.rate == 1.0
    assert "| random, reuse |" in table and "| reused |" in table and "took the final answer" in table
    offload(None, data(root), None, Teacher(oracle), **given)
    assert "reuse" not in (tmp_path / "out/points.md").read_text()
    with pytest.raises(
        ValueError, match=r"the time '\d+' of .* is a number, and age is counted in seconds: say"
    ):
        offload(None, data(root), None, Teacher(oracle), reuse=Reuse(), **given)
    with pytest.raises(ValueError, match="where='slots' watches the slots of predict's map"):
        offload(None, data(root), None, Teacher(oracle), reuse=Reuse(where="slots"), **given)
