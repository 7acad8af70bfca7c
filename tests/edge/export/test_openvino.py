"""A student exported to OpenVINO's format: measured and compared as that file."""

import pytest

pytest.importorskip("openvino")

from lkd.edge import Exported
from lkd.edge.export import export

from ..students import Samples, classifier, save

pytestmark = pytest.mark.usefixtures("quick")
LICENSES = dict.fromkeys(("data", "teacher", "weights"), "none")


def test_file_and_card(tmp_path):
    path = save(classifier(), tmp_path / "x.ckpt")
    out = tmp_path / "out"
    (file,) = export(classifier(seed=1), Samples(), path, str(out), format="openvino", licenses=LICENSES)
    assert sorted(p.name for p in out.iterdir()) == ["student.bin", "student.json", "student.xml"]
    student = Exported(file)
    assert student.spec["classes"] == Samples.classes
    card = student.card
    assert card["format"]["name"] == "openvino" and card["metrics"]["run by"].startswith("OpenVINO 20")
    assert card["metrics"]["file"] == pytest.approx(card["metrics"]["checkpoint"], abs=1e-5)
    assert card["parity"]["samples"] == 10 and card["latency"]["threads"] == 1


def test_a_file_that_differs_is_not_kept(tmp_path):
    path = save(classifier(), tmp_path / "x.ckpt")
    options = {"format": "openvino", "licenses": LICENSES, "tolerance": 0.0}
    with pytest.raises(ValueError, match="the file's logits differ from the module's"):
        export(classifier(), Samples(), path, str(tmp_path / "out"), **options)
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_format(tmp_path):
    path = save(classifier(), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="format='tflite' must be 'onnx' or 'openvino'"):
        export(classifier(), Samples(), path, format="tflite")
