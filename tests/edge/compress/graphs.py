"""Small ONNX files, put together without the exporter."""

import json

import numpy as np
import onnx

from lkd.edge.exported import KEY, VERSION

SIDE = 8


def detector(path, seed=0):
    """Two convolutions and a head of two, whose boxes are decoded by what loses most in eight bits; with lkd's metadata."""
    rng = np.random.default_rng(seed)
    shapes = {
        "module.net.0.weight": (8, 3, 3, 3), "module.net.1.weight": (8, 8, 3, 3),
        "module.head.box.weight": (4, 8, 1, 1), "module.head.score.weight": (2, 8, 1, 1),
    }  # fmt: skip
    weights = [
        onnx.numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    weights += [
        onnx.numpy_helper.from_array(np.array(value, dtype), name)
        for name, value, dtype in (("flat", [0, -1, 64], np.int64), ("flat4", [0, 4, 64], np.int64), ("stride", [32.0], np.float32), ("corner", [100.0], np.float32))
    ]  # fmt: skip
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["images", "module.net.0.weight"], ["a"], "conv0", pads=[1, 1, 1, 1]),
        node("Sigmoid", ["a"], ["b"], "sigmoid0"),
        node("Mul", ["a", "b"], ["c"], "silu0"),
        node("Conv", ["c", "module.net.1.weight"], ["d"], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["d"], ["e"], "relu1"),
        node("Conv", ["e", "module.head.box.weight"], ["f"], "box"),
        node("Conv", ["e", "module.head.score.weight"], ["g"], "score"),
        node("Mul", ["f", "stride"], ["h"], "times_stride"),
        node("Add", ["h", "corner"], ["i"], "plus_corner"),
        node("Reshape", ["i", "flat4"], ["j"], "reshape_boxes"),
        node("Transpose", ["j"], ["boxes"], "transpose_boxes", perm=[0, 2, 1]),
        node("Reshape", ["g", "flat"], ["k"], "reshape_scores"),
        node("Transpose", ["k"], ["l"], "transpose_scores", perm=[0, 2, 1]),
        node("Sigmoid", ["l"], ["scores"], "sigmoid_scores"),
    ]
    value = onnx.helper.make_tensor_value_info
    ends = [value("boxes", 1, ["batch", 64, 4]), value("scores", 1, ["batch", 64, 2])]
    graph = onnx.helper.make_graph(nodes, "g", [value("images", 1, ["batch", 3, SIDE, SIDE])], ends, weights)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    spec = {
        "version": VERSION, "kind": "boxes", "nms": "beside", "classes": ["a", "b"],
        "inputs": [{"name": "images", "shape": ["batch", 3, SIDE, SIDE], "dtype": "float32"}],
        "score_threshold": 0.25, "iou_threshold": 0.6, "max_detections": 20,
    }  # fmt: skip
    onnx.helper.set_model_props(made, {KEY: json.dumps(spec)})
    onnx.checker.check_model(made)
    onnx.save(made, str(path))
    return path


def frames(count=6, seed=1):
    rng = np.random.default_rng(seed)
    return [{"images": rng.random((1, 3, SIDE, SIDE), np.float32)} for _ in range(count)]
