"""A student in OpenVINO's format: the same numbers, the same metadata, and what is wrong in one sentence."""

import numpy as np
import onnx
import pytest
import torch

pytest.importorskip("openvino")

from lkd.edge import Exported, to_openvino
from lkd.edge.export.card import write_card
from lkd.edge.export.tail import with_suppression
from lkd.edge.exported import sha256

from .files import finish
from .students import by_hand, classifier
from .test_nms import drawn, passing

SPEC = {
    "kind": "logits",
    "inputs": [{"name": "x", "shape": ["batch", 3, 2, 2], "dtype": "float32"}],
    "classes": ["Straße", '"a" <b> & c', "d"],
}


def written(folder):
    graph = by_hand(classifier(), {"x": torch.zeros(2, 3, 2, 2)}, ["logits"])
    finish(graph, folder / "student.onnx", **SPEC)
    return folder / "student.onnx"


def test_the_same_numbers_and_metadata(tmp_path):
    path = to_openvino(written(tmp_path))
    assert path == tmp_path / "student.xml" and path.with_suffix(".bin").is_file()
    other, student = Exported(tmp_path / "student.onnx"), Exported(path)
    assert student.spec == other.spec and student.spec["classes"] == SPEC["classes"]
    assert student.backend.runtime.startswith("OpenVINO 20") and other.backend.runtime.startswith("ONNX")
    for count in (1, 3):
        x = np.random.default_rng(count).random((count, 3, 2, 2), np.float32)
        np.testing.assert_allclose(student(x), other(x), atol=1e-6)
    with pytest.raises(ValueError, match="'x' must be a float32 array"):
        student(x.astype(np.float64))


def test_the_card_is_of_both_files(tmp_path):
    path = to_openvino(written(tmp_path), tmp_path)
    write_card(path, {}, parameters=3)
    card, weights = Exported(path).card, path.with_suffix(".bin")
    assert card["sha256"] == sha256(path)
    assert card["size"]["bytes"] == path.stat().st_size + weights.stat().st_size
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="is the card of another file"):
        _ = Exported(path).card


@pytest.mark.parametrize(("classes", "multi_label"), [(1, False), (3, False), (3, True)])
def test_suppression_inside(tmp_path, classes, multi_label):
    spec = {"kind": "boxes", "nms": "inside", "inputs": [], "classes": []}
    finish(with_suppression(passing(60, classes), 0.3, 0.5, 7, multi_label), tmp_path / "x.onnx", **spec)
    other, student = (Exported(path) for path in (tmp_path / "x.onnx", to_openvino(tmp_path / "x.onnx")))
    boxes, scores = drawn(3, 60, classes)
    scores += np.random.default_rng(1).random(scores.shape).astype(np.float32) / 1e3  # without ties
    scores[1] = 0
    for size in (3, 1):
        inputs = {"b": boxes[:size], "s": scores[:size]}
        wanted = other.run(inputs)["detections"]
        assert len(wanted) > 5
        np.testing.assert_allclose(student.run(inputs)["detections"], wanted, atol=1e-6)
    assert student.run({"b": boxes, "s": 0 * scores})["detections"].shape == (0, 7)


def test_a_network_in_8_bits_stays_in_8_bits(tmp_path):
    weight = np.random.default_rng(0).integers(-127, 128, (64, 64)).astype(np.int8)
    graph = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18]>
        quantized (float[batch, 64] x) => (float[batch, 64] logits)
        <float fine = {0.02}, int8 none = {0}, uint8 middle = {128}, float coarse = {0.05}>
        {
            x8 = QuantizeLinear (x, coarse, middle)
            xq = DequantizeLinear (x8, coarse, middle)
            wq = DequantizeLinear (w8, fine, none)
            logits = MatMul (xq, wq)
        }""")
    graph.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w8"))
    spec = {**SPEC, "inputs": [{"name": "x", "shape": ["batch", 64], "dtype": "float32"}]}
    finish(graph, tmp_path / "x.onnx", **spec)
    path = to_openvino(tmp_path / "x.onnx", tmp_path)
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    np.testing.assert_allclose(Exported(path)(x), Exported(tmp_path / "x.onnx")(x), atol=1e-3)
    assert path.with_suffix(".bin").stat().st_size < 64 * 64 + 1000


def test_bad_files(tmp_path):
    (tmp_path / "x.xml").write_text("<net/>")
    (tmp_path / "x.onnx").write_text("nothing")
    (tmp_path / "x.pt").write_text("nothing")
    for call, error, sentence in [
        (lambda: Exported(tmp_path / "x.xml"), ValueError, r"x\.xml' cannot be run by OpenVINO"),
        (lambda: Exported(tmp_path / "x.pt"), ValueError, r"must be a \.onnx, or a \.xml of OpenVINO"),
        (lambda: to_openvino(tmp_path / "x.onnx"), ValueError, r"x\.onnx' cannot be read by OpenVINO"),
        (lambda: to_openvino(tmp_path / "x.xml"), ValueError, r"must be a \.onnx file"),
        (lambda: to_openvino(tmp_path / "gone.onnx"), FileNotFoundError, "does not exist"),
    ]:
        with pytest.raises(error, match=sentence):
            call()
    onnx.save(by_hand(classifier(), {"x": torch.zeros(2, 3, 2, 2)}, ["logits"]), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="was not exported by lkd"):
        Exported(to_openvino(tmp_path / "x.onnx"))
