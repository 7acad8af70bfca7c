"""Post-training quantization of a file."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from lkd.edge import Exported
from lkd.edge.compress import quantize_file
from lkd.edge.compress.quantize import int8
from lkd.edge.export.tail import with_suppression
from lkd.edge.exported import KEY

from ..graphs import detector, frames
from ..processor import exact_sums


@pytest.fixture
def path(tmp_path):
    return detector(tmp_path / "student.onnx")


def quantized(path):
    """Names of the nodes whose every float input comes out of int8."""
    graph = onnx.load(path).graph
    made = {out: node.op_type for node in graph.node for out in node.output}
    return {n.name for n in graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear") and made.get(n.input[0]) == "DequantizeLinear"}  # fmt: skip


@exact_sums
def test_a_smaller_file_that_says_nearly_the_same(path, tmp_path):
    end = tmp_path / "int8.onnx"
    quantize_file(path, end, frames())
    batch = np.concatenate([frame["images"] for frame in frames(seed=2)])
    one, other = Exported(path).run({"images": batch}), Exported(end).run({"images": batch})
    assert Exported(end).spec == Exported(path).spec  # lkd's metadata have come along
    assert np.abs(other["boxes"] - one["boxes"]).max() < 2
    assert np.abs(other["scores"] - one["scores"]).max() < 0.02
    assert {t.name for t in onnx.load(end).graph.initializer if t.data_type == 3} >= {
        "module.net.0.weight_quantized",
        "module.net.1.weight_quantized",
    }


@exact_sums
def test_what_decodes_boxes_stays_float_and_so_do_the_heads_convolutions(path, tmp_path, monkeypatch):
    """Guards the mistake that cost a detector .074 of its mAP50-95."""
    end = tmp_path / "int8.onnx"
    made = quantize_file(path, end, frames())
    assert set(made.nodes) == {"conv0", "sigmoid0", "silu0", "conv1", "relu1"}
    assert {"conv0", "conv1"} <= quantized(end)
    float_nodes = {"times_stride", "plus_corner", "transpose_boxes", "sigmoid_scores", "reshape_boxes"}
    assert not quantized(end) & float_nodes
    weights = {t.name: t.data_type for t in onnx.load(end).graph.initializer}
    assert weights["module.head.box.weight"] == weights["module.head.score.weight"] == 1
    images = {"images": frames(1, seed=3)[0]["images"]}
    wanted = Exported(path).run(images)["boxes"]
    kept = np.abs(Exported(end).run(images)["boxes"] - wanted).max()
    monkeypatch.setattr(int8, "head_and_behind", lambda graph, last: set())
    quantize_file(path, end, frames())
    assert np.abs(Exported(end).run(images)["boxes"] - wanted).max() > 3 * kept


def test_suppression_inside_stays_as_it_is(path, tmp_path):
    """Its tensors have as many rows as there are boxes, another number for each frame."""
    graph = onnx.load(path)
    joined = with_suppression(graph, 0.25, 0.6, 20)
    spec = json.loads(graph.metadata_props[0].value) | {"nms": "inside"}
    onnx.helper.set_model_props(joined, {KEY: json.dumps(spec)})
    inside, end = tmp_path / "inside.onnx", tmp_path / "int8.onnx"
    onnx.save(joined, str(inside))
    made = quantize_file(inside, end, frames())
    assert set(made.nodes) == {"conv0", "sigmoid0", "silu0", "conv1", "relu1"}
    found = Exported(end)(frames(1)[0]["images"])
    assert len(found) == 1 and found[0]["boxes"].shape[1] == 4


def test_the_file_is_valid_and_names_no_domain_that_it_does_not_use(path, tmp_path):
    end = tmp_path / "int8.onnx"
    quantize_file(path, end, frames())
    made = onnx.load(end)
    onnx.checker.check_model(made)
    assert [entry.domain for entry in made.opset_import] == [""]
    assert [entry.key for entry in made.metadata_props] == [KEY]


def test_nothing_is_left_in_the_working_folder(path, tmp_path, monkeypatch):
    """Where symbolic inference fails, as on a YOLO, ONNX Runtime writes what it has of the network into it."""
    tried = []

    def fail(self):
        tried.append(self)
        self.run_ = False

    monkeypatch.setattr("onnxruntime.tools.symbolic_shape_infer.SymbolicShapeInference._infer_impl", fail)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    quantize_file(Path("../student.onnx"), Path("../int8.onnx"), frames())
    assert tried and (tmp_path / "int8.onnx").is_file() and not list(here.iterdir())


def test_it_is_the_same_each_time(path, tmp_path):
    ends = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for end in ends:
        quantize_file(path, end, frames())
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_many_frames_at_a_time_find_the_ranges_of_all(path, tmp_path, monkeypatch):
    ranges = []
    for at_once in (2, 100):
        monkeypatch.setattr(int8, "AT_ONCE", at_once)
        made = int8.Calibrated(path, frames(), "minmax")
        ranges.append({name: made._ranges[name].range_value for name in ("a", "c", "d")})
    assert ranges[0] == ranges[1]


@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_a_layer_that_runs_twice_has_the_range_of_both(path, tmp_path, method):
    """As the heads of FCOS and RetinaNet do, through which all maps go."""
    graph = onnx.load(path)
    nodes = list(graph.graph.node)
    again = onnx.helper.make_node("Conv", ["e", "module.net.1.weight"], ["e2"], "again", pads=[1, 1, 1, 1])
    for node in nodes[5:7]:
        node.input[0] = "e2"
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes[:5], again, *nodes[5:]])
    onnx.save(graph, path)
    made = int8.Calibrated(path, frames(), method)
    (low, _), (_, high) = (made._ranges[name].range_value for name in ("c", "e"))
    assert low < 0 < high and made.input_ranges()["net.1"] == (low.item(), high.item())
    made.write(tmp_path / "int8.onnx")
    assert Exported(tmp_path / "int8.onnx")(frames()[0]["images"])


@pytest.mark.parametrize("name", ["net.1", "net.1.weight", "conv1", "1"])
def test_layers_that_the_user_keeps_float(path, tmp_path, name):
    if name == "net.1.weight":
        with pytest.raises(
            ValueError, match=r"keep_float='net.1.weight' names no layer.*it has net.0, net.1, head.box"
        ):
            quantize_file(path, tmp_path / "int8.onnx", frames(), keep_float=[name])
        return
    made = quantize_file(path, tmp_path / "int8.onnx", frames(), keep_float=[name])
    assert "conv1" not in made.nodes and "conv0" in made.nodes


def test_nothing_to_quantize_and_nothing_to_calibrate_on(path, tmp_path):
    with pytest.raises(ValueError, match="nothing to quantize"):
        quantize_file(path, tmp_path / "int8.onnx", frames(), keep_float=["net"])
    with pytest.raises(ValueError, match="no frame to calibrate on"):
        quantize_file(path, tmp_path / "int8.onnx", [])
