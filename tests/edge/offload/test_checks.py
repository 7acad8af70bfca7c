"""What is refused, or said, before a table is made."""

from types import SimpleNamespace

import pytest
from torch import nn

from lkd.datamodules import Digits, YoloFolder
from lkd.edge.offload.checks import check_module, check_samples, other_thresholds, require_classes
from lkd.modules import Detector
from lkd.teachers import Teacher

from ...detectors import needs_yolo
from ..students import TINY, Plain, classifier


def of(calibration, test):
    counts = {"calibration": calibration, "test": test}
    return SimpleNamespace(cameras=lambda split: [""] * counts[split])


def test_too_few_samples_are_refused():
    check_samples(of(3, 1), 1)
    check_samples(of(1, 1), 15)
    with pytest.raises(
        ValueError, match="there are 2 calibration samples, and a learned gate needs 3 or more"
    ):
        check_samples(of(2, 9), 1)
    with pytest.raises(ValueError, match="there are 0 test samples, and a report needs 1 or more"):
        check_samples(of(9, 0), 1)


def test_boxes_that_end_at_another_score_are_said():
    teacher = Teacher(nn.Linear(1, 1))
    assert other_thresholds({"score_threshold": 0.001}, teacher) is None
    assert "end at a score of 0.25 and the teacher's at 0.001" in other_thresholds(
        {"score_threshold": 0.25}, teacher
    )
    teacher.loaded.thresholds = (0.25, 0.7, 300)
    assert other_thresholds({"score_threshold": 0.25}, teacher) is None
    assert "give both score_threshold=0.001" in other_thresholds({"score_threshold": 0.001}, teacher)


def test_probabilities_have_no_threshold():
    assert other_thresholds({"kind": "logits"}, Teacher(nn.Linear(1, 1))) is None


@needs_yolo
def test_the_module_has_to_answer_to_the_data(tmp_path):
    frames, pictures = YoloFolder(root=str(tmp_path)), Digits()
    check_module(Detector(TINY, num_classes=2), frames)
    check_module(classifier(), pictures)
    with pytest.raises(
        ValueError, match="Classifier is no Detector, which YoloFolder needs, with its frames"
    ):
        check_module(classifier(), frames)
    with pytest.raises(
        ValueError, match=r"Plain is no Classifier, which Digits needs, .* exported=student\.onnx"
    ):
        check_module(Plain(), pictures)


def test_an_arm_of_other_classes_is_refused():
    arm = SimpleNamespace(module=classifier)  # of three classes
    require_classes(Teacher(nn.Linear(1, 1)), [arm], SimpleNamespace(num_classes=3))
    with pytest.raises(
        ValueError, match="arms: SimpleNamespace answers with 3 classes and the student with 10"
    ):
        require_classes(Teacher(nn.Linear(1, 1)), [arm], SimpleNamespace(num_classes=10))
