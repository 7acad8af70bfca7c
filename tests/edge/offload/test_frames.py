"""Frames: boxes of the teacher come back to where they are, from whatever was sent."""

import os

import numpy as np
import pytest
import torch

from lkd.datamodules import YoloFolder
from lkd.datamodules.io.pictures import read_image
from lkd.edge.offload import Budget, CameraMean, Link, Oracle, Payload, Random, Tiles
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.cascade import offload
from lkd.edge.offload.frames import FrameAnswerSource
from lkd.edge.offload.source import AnswerSource
from lkd.edge.offload.students import predictor_of, student_of
from lkd.edge.offload.trial import Conditions, Trial
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.predictor import PARTS
from lkd.edge.predict.timing import FrameTimes
from lkd.teachers import Teacher

from ...detectors import needs_yolo
from ...roads import oracle, write_roads
from ..files import detector_file
from ..students import detector, save

PNG = Payload("png")


@pytest.fixture
def root(tmp_path):
    return write_roads(tmp_path / "roads", count=6, cars=3)


def folder(root, fractions=(0.5, 0.0, 0.5), **options):
    return YoloFolder(root=str(root), image_size=128, fractions=fractions, **options)


class Blind:
    """A student that finds the first car of a frame only, and knows nothing of cameras."""

    def __call__(self, frame, clock):
        image = torch.from_numpy(frame.image).permute(2, 0, 1).float() / 255
        (found,) = oracle(image[None])
        return {name: rows[:1].numpy() for name, rows in found.items()}


def source(root, payload=PNG, tiles=None, teacher_size=128, labels=False, **options):
    student = Blind()
    return FrameAnswerSource(
        lambda camera: student,
        Teacher(oracle),
        folder(root, **options),
        payload,
        BoxTask(tiles),
        teacher_size,
        labels,
    )


def judged(made, split="test"):
    answers = made.answers(split, made_in(made))
    return answers, Trial(made.task, answers, Conditions(Link(8.0)))


def made_in(made):
    return made.frames["test"][0].path.parents[1] / "answers"


@pytest.mark.parametrize("teacher_size", [128, 256, 100])
def test_boxes_come_back_in_pixels_of_the_frame(root, teacher_size):
    made = source(root, teacher_size=teacher_size)
    answers, trial = judged(made)
    assert answers.sizes.tolist() == [[96, 128]] * 6 and list(answers.cameras) == ["camA"] * 3 + ["camB"] * 3
    for truth, (remote,) in zip(answers.truth, answers.remote, strict=True):
        assert len(remote["boxes"]) == len(truth["boxes"])
        order = [np.lexsort(one["boxes"].T[:1].round()) for one in (truth, remote)]
        assert np.abs(truth["boxes"][order[0]] - remote["boxes"][order[1]]).max() < 2.5
    everything = trial.point("a", np.ones((6, 1), bool)).metrics
    nothing = trial.point("a", np.zeros((6, 1), bool)).metrics
    assert everything["map50"] > 0.99 > nothing["map50"]
    assert nothing["recall"] < 0.7


def test_a_smaller_payload_is_scaled_back(root):
    answers, trial = judged(source(root, payload=Payload("png", side=96)))
    assert trial.point("a", np.ones((6, 1), bool)).metrics["map50"] > 0.99
    assert answers.nbytes.max() < judged_bytes(root)


def judged_bytes(root):
    return source(root).ask("test", 0, 6).nbytes.min()


def test_tiles_find_the_cars_of_their_core(root):
    made = source(root, tiles=Tiles(2, 2, overlap=30))
    answers, trial = judged(made)
    assert answers.nbytes.shape == (6, 4) and answers.server_ms.shape == (6, 4)
    everything = trial.point("a", np.ones((6, 4), bool))
    assert everything.metrics["map50"] > 0.99 and everything.rate == 1.0
    gains = made.task.gain(answers)
    cars = np.array([len(t["boxes"]) for t in answers.truth])
    assert (gains.sum(1) <= cars - 1).all() and gains.sum() > 0
    best = Oracle("map50").score(made.task, answers) > 0
    assert trial.point("a", best).metrics["map50"] > trial.point("a", ~best).metrics["map50"]


def test_labels_of_calibration_frames_are_read_only_if_asked(root):
    for path in (root / "labels").glob("*_[0-2].txt"):
        path.write_text("this is no label")
    made = source(root)
    assert "6 training frames, as there are no validation frames, without their labels" in made.calibrated_on
    assert judged(made, "calibration")[0].truth is None
    with pytest.raises(ValueError, match=r"camA_0\.txt"):
        source(root, labels=True)


def test_validation_frames_come_first(root):
    made = source(root, fractions=(0.34, 0.33, 0.33), labels=True)
    assert "4 validation frames, with their labels" in made.calibrated_on
    assert judged(made, "calibration")[0].truth is not None
    seen = {split: {f.path for f in frames} for split, frames in made.frames.items()}
    assert not seen["calibration"] & seen["test"]


def test_nothing_to_calibrate_on_is_refused(root):
    with pytest.raises(ValueError, match=r"neither validation nor training frames, and thresholds are never"):
        source(root, fractions=(0.0, 0.0, 1.0))


def test_another_file_has_another_digest(root):
    before = source(root).digest("test")
    assert source(root).digest("test") == before
    path = root / "images/camA_4.png"
    was, at = path.read_bytes(), path.stat()
    path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))  # of the same size, and at the same time
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert path.stat().st_size == at.st_size and source(root).digest("test") != before
    path.write_bytes(was)
    assert source(root).digest("test") == before  # a copy of the data is the same data


@needs_yolo
def test_a_detector_from_its_checkpoint(root, tmp_path, monkeypatch):
    """Nothing sent is what the module says of the same frames; the camera mean and the learned gate are in the table."""
    module = detector()
    data = folder(root, class_map={0: 0})
    options = {"payload": PNG, "budget": Budget(rate=0.5), "draws": 2, "folder": str(tmp_path / "out")}
    ckpt_path = save(module, tmp_path / "student.ckpt")
    point = offload(module, data, ckpt_path, Teacher(detector(1)), gate=CameraMean(), **options)
    assert 0 <= point.rate <= 0.5 or point.rate == 1.0
    table = (tmp_path / "out/points.md").read_text()
    assert "| camera mean | 50 % |" in table and "| learned |" in table and "learned gate" in table
    monkeypatch.setattr(AnswerSource, "answers", None)
    smaller = YoloFolder(root=str(root), image_size=96, fractions=(0.5, 0.0, 0.5), class_map={0: 0})
    with pytest.raises(ValueError, match=r"another configuration \(answers as\[0\]\.inputs\[0\]"):
        offload(module, smaller, ckpt_path, Teacher(detector(1)), teacher_size=128, **options)
    surer = detector(score_threshold=0.3)
    with pytest.raises(ValueError, match=r"another configuration \(answers as\[0\]\.score_threshold"):
        offload(surer, data, ckpt_path, Teacher(detector(1)), **options)
    with pytest.raises(ValueError, match="another configuration"):
        offload(module, data, ckpt_path, Teacher(module), tiles=Tiles(2, 1), **options)


def test_an_exported_file_is_the_student(root, tmp_path):
    pytest.importorskip("onnxruntime")
    made = detector_file(tmp_path / "student.onnx", threshold=0.0)
    folders = {name: str(tmp_path / name) for name in ("one", "two")}
    options = {"payload": PNG, "budget": Budget(rate=1.0), "gate": Random(), "draws": 1, "link": Link(8.0)}
    point = offload(
        None, folder(root), None, Teacher(oracle), exported=str(made), folder=folders["one"], **options
    )
    assert point.rate == 1.0 and point.metrics["map50"] > 0.99
    files = {"camA": str(made), "camB": str(made)}
    again = offload(
        None, folder(root), None, Teacher(oracle), exported=files, folder=folders["two"], **options
    )
    assert again.metrics == point.metrics


@needs_yolo
def test_the_student_is_the_detectors_own(root, tmp_path):
    module, data = detector(), folder(root)
    of = predictor_of(student_of(module, data, save(module, tmp_path / "student.ckpt"), None, 1), "it")
    path = sorted((root / "images").iterdir())[0]
    image = read_image(path)
    found = of("camA")(
        Frame(str(path), 0, None, image.permute(1, 2, 0).contiguous().numpy()), FrameTimes(PARTS)
    )
    (own,) = module.eval().detect(image[None].float() / 255)
    assert len(found["scores"]) == len(own["scores"]) > 3
    assert found["scores"] == pytest.approx(own["scores"].detach().numpy(), abs=1e-4)
    assert of("camB") is of("camA")


def test_labels_without_an_object_are_refused(root):
    for path in (root / "labels").glob("*_[3-5].txt"):
        path.write_text("")
    with pytest.raises(ValueError, match="labels of the 6 test frames of YoloFolder have no object at all"):
        source(root)
