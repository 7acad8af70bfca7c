"""Frames to calibrate on."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from lkd.datamodules import Digits
from lkd.edge.compress.quantize.frames import calibration_frames
from lkd.edge.export.kind import ExportPart
from lkd.edge.export.logits import ClassifierKind
from lkd.models import MLP
from lkd.modules import Classifier

from ...students import detector


def logits(data, count):
    kind = ClassifierKind(Classifier(MLP(64, 10, hidden=[4])))
    part = ExportPart("", kind.module, {"x": torch.zeros(2, 1, 8, 8)}, ["logits"], 10)
    return calibration_frames(kind, {"": part}, data, count)[""]


def test_samples_are_evenly_spaced_and_the_same_each_time():
    frames = logits(Digits(), 4)
    data = Digits()
    data.setup()
    x = data.datasets["train"].tensors[0]
    wanted = x[np.linspace(0, len(x) - 1, 4).round()].numpy()
    assert [f["x"].shape for f in frames] == 4 * [(1, 1, 8, 8)]
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in frames]), wanted)


def test_all_are_taken_where_there_are_fewer():
    data = Digits(fractions=(0.02, 0.0, 0.98))
    assert len(logits(data, 500)) == len(data.datasets["train"]) < 500


def test_samples_that_the_file_does_not_take_are_refused():
    kind = ClassifierKind(Classifier(MLP(64, 10, hidden=[4])))
    part = ExportPart("", kind.module, {"x": torch.zeros(2, 3, 8, 8)}, ["logits"], 10)
    with pytest.raises(
        ValueError, match=r"training samples have the shapes .*\(1, 8, 8\).* the file takes .*\(3, 8, 8\)"
    ):
        calibration_frames(kind, {"": part}, Digits(), 2)


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo")
def test_each_cameras_file_gets_its_own_frames_without_labels(tmp_path, monkeypatch):
    from lkd.datamodules import YoloFolder
    from lkd.edge.export.boxes import DetectorKind

    from ....roads import write_roads

    root = write_roads(tmp_path / "roads", count=8)
    data = YoloFolder(str(root), image_size=64, fractions=(0.5, 0.0, 0.5), batch_size=4)
    data.setup("test")
    cameras = data.cameras
    kind = DetectorKind(detector(cameras=cameras), "beside")
    parts = {
        name: ExportPart(name, kind.module, {"images": torch.zeros(2, 3, 96, 96)}, [], 2) for name in cameras
    }
    monkeypatch.setattr(YoloFolder, "annotate", lambda self, frames: pytest.fail("labels were read"))
    made = calibration_frames(kind, parts, YoloFolder(str(root), image_size=64, fractions=(0.5, 0.0, 0.5)), 2)
    for name in cameras:
        own = [f for f in data.splits.train if f.camera == name]
        assert len(made[name]) == min(2, len(own)) and made[name][0]["images"].shape == (1, 3, 96, 96)
    first = [made[name][0]["images"] for name in cameras]
    assert len(cameras) > 1 and not np.array_equal(first[0], first[1])
    with pytest.raises(
        ValueError, match=r"training frames of 64x64 .* do not fit into the file's input of 32x32"
    ):
        small = {cameras[0]: parts[cameras[0]]._replace(inputs={"images": torch.zeros(2, 3, 32, 32)})}
        calibration_frames(kind, small, data, 2)
