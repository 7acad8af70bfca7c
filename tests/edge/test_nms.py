import numpy as np
import pytest
import torch

from lkd.edge.export.tail import with_suppression
from lkd.edge.nms import suppress
from lkd.models import suppressed

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def drawn(pictures, boxes, classes, seed=0):
    r = np.random.default_rng(seed)
    corner, side = r.random((pictures, boxes, 2)) * 40, 4 + r.random((pictures, boxes, 2)) * 30
    scores = r.random((pictures, boxes, classes)).round(2)  # with ties
    return np.concatenate([corner, corner + side], 2).astype(np.float32), scores.astype(np.float32)


many = pytest.mark.parametrize(
    ("classes", "most", "multi_label"),
    [(1, 300, False), (3, 300, False), (3, 4, False), (3, 300, True), (3, 4, True)],
)


@many
def test_the_same_as_in_torch(classes, most, multi_label):
    boxes, scores = drawn(2, 80, classes)
    scores += np.random.default_rng(1).random(scores.shape).astype(np.float32) / 1e3  # without ties
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    wanted = suppressed(*tensors, 0.3, 0.5, most, multi_label=multi_label)
    for one, given, all_scores in zip(wanted, boxes, scores, strict=True):
        found = suppress(given, all_scores, 0.3, 0.5, most, multi_label)
        assert 0 < len(found["scores"]) <= most and found["labels"].tolist() == one["labels"].tolist()
        np.testing.assert_allclose(found["boxes"], one["boxes"], atol=1e-4)
        np.testing.assert_allclose(found["scores"], one["scores"], atol=1e-5)


@many
def test_inside_of_a_graph_it_is_the_same(classes, most, multi_label):
    graph = with_suppression(passing(80, classes), 0.3, 0.5, most, multi_label)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for pictures in (1, 3):
        boxes, scores = drawn(pictures, 80, classes)
        scores[1:2] = 0  # nothing on the second picture
        rows = session.run(None, {"b": boxes, "s": scores})[0]
        assert (np.diff(rows[:, 0]) >= 0).all()
        for number in range(pictures):
            wanted = suppress(boxes[number], scores[number], 0.3, 0.5, most, multi_label)
            got = rows[rows[:, 0] == number]
            np.testing.assert_array_equal(got[:, 1:5], wanted["boxes"])
            np.testing.assert_array_equal(got[:, 6], wanted["scores"])
            np.testing.assert_array_equal(got[:, 5], wanted["labels"])
    assert session.run(None, {"b": boxes, "s": 0 * scores})[0].shape == (0, 7)


@pytest.mark.parametrize("multi_label", [False, True])
def test_nothing_lies_in_the_graph_unused(multi_label):
    """ONNX Runtime would say so to whoever opens the file."""
    graph = with_suppression(passing(8, 3), 0.3, 0.5, 4, multi_label).graph
    used = {name for node in graph.node for name in node.input}
    assert {one.name for one in graph.initializer} <= used


def passing(boxes, classes):
    """A graph whose outputs are its inputs."""
    make = onnx.helper
    shapes = {"b": ["batch", boxes, 4], "s": ["batch", boxes, classes]}
    inputs = [make.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    outputs = [make.make_tensor_value_info(name, 1, shapes[name[0]]) for name in ("boxes", "scores")]
    nodes = [make.make_node("Identity", [name[0]], [name]) for name in ("boxes", "scores")]
    graph = make.make_graph(nodes, "passing", inputs, outputs)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)


def test_a_box_without_area_suppresses_nothing():
    boxes = np.array([[3, 3, 3, 3], [3, 3, 3, 3]], np.float32)
    assert len(suppress(boxes, np.full((2, 1), 0.9, np.float32), 0.1, 0.5, 10)["scores"]) == 2
