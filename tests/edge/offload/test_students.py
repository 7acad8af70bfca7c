"""Who answers for a camera."""

import pytest

from lkd.edge.offload import students
from lkd.edge.offload.students import predictor_of, student_of


class File:
    """A file by its path alone."""

    def __init__(self, path, threads):
        self.path, self.threads = path, threads
        entry = {"name": "x", "shape": ["batch", 3, 4, 4], "layout": "NCHW, pixels, RGB", "resize": {"how": "stretch"},
                 "normalization": {"scale": 255.0, "mean": [0.0], "std": [1.0]}}  # fmt: skip
        self.spec = {"kind": "boxes", "inputs": [entry], "classes": ["car"], "score_threshold": 0.01}


@pytest.fixture(autouse=True)
def files(monkeypatch):
    monkeypatch.setattr(students, "Exported", File)


def test_one_file_for_all_cameras_or_one_for_each():
    of = student_of(None, None, None, "a.onnx", 2)
    assert of("C1") is of("C2") and of("C1").path == "a.onnx" and of("C1").threads == 2
    of = student_of(None, None, None, {"C1": "a.onnx", "C2": "b.onnx"}, 1)
    assert [of(name).path for name in ("C1", "C2")] == ["a.onnx", "b.onnx"]
    with pytest.raises(ValueError, match=r"exported has no file for the camera 'C3': it has C1, C2"):
        of("C3")


def test_a_checkpoint_needs_its_module():
    with pytest.raises(ValueError, match=r"ckpt_path='x\.ckpt' needs its module"):
        student_of(None, None, "x.ckpt", None, 1)


def test_faint_boxes_are_asked_for_too():
    of = predictor_of(student_of(None, None, None, {"C1": "a.onnx", "C2": "b.onnx"}, 1), "it")
    assert of("C1").score_threshold == 0.01 and of("C1") is of("C1") and of("C1") is not of("C2")
