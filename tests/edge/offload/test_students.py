"""Who answers for a camera."""

from types import SimpleNamespace

import pytest

from lkd.edge.offload import students
from lkd.edge.offload.students import known_classes, predictor_of, specs_of, student_of


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


def test_all_cameras_are_looked_at_before_anybody_is_asked(monkeypatch):
    of = student_of(None, None, None, {"C1": "a.onnx", "C2": "b.onnx"}, 1)
    assert specs_of(of, ["C1", "C2", "C1"], "boxes", "it") == [of("C1").spec]
    with pytest.raises(ValueError, match="exported has no file for the camera 'C3'"):
        specs_of(of, ["C1", "C3"], "boxes", "it")
    of("C2").spec = {**of("C2").spec, "classes": ["van"]}
    with pytest.raises(
        ValueError, match=r"the camera 'C2' has the classes \['van'\], and another has \['car'\]"
    ):
        specs_of(of, ["C1", "C2"], "boxes", "it")
    with pytest.raises(
        ValueError, match="answers with boxes, and of Digits offload needs one that answers with logits"
    ):
        specs_of(of, ["C1"], "logits", "Digits")


def test_a_file_goes_by_its_own_classes_which_are_the_datas():
    of_data = SimpleNamespace(classes=["car", "van"])
    ours = known_classes({"classes": ["car", "van"]}, None, of_data)
    assert (ours.class_names, ours.num_classes) == (["car", "van"], 2)
    assert known_classes({"classes": ["0", "1"]}, None, of_data).class_names is None
    for others in (["van", "car"], ["car"], ["0", "1", "2"]):
        with pytest.raises(ValueError, match="labels would be taken for others"):
            known_classes({"classes": others}, None, of_data)
    module = SimpleNamespace(class_names=["lorry"])
    assert known_classes({"classes": ["car"]}, module, of_data).class_names == ["lorry"]
