"""Which layer a node is of, and which nodes stay float."""

import onnx

from lkd.edge.compress.quantize.layers import groups, head_and_behind, layers

from ..graphs import detector


def test_nodes_belong_to_the_layer_whose_weight_they_or_the_node_before_has(tmp_path):
    found = layers(onnx.load(detector(tmp_path / "d.onnx")).graph)
    assert found["conv0"] == found["sigmoid0"] == found["silu0"] == "net.0"
    assert found["times_stride"] == "head.box" and found["sigmoid_scores"] == "head.score"


def test_the_head_is_found_whatever_its_layers_are_called(tmp_path):
    graph = onnx.load(detector(tmp_path / "d.onnx")).graph
    apart = head_and_behind(graph, ["Conv"])
    assert {n.name for n in graph.node} - apart == {"conv0", "sigmoid0", "silu0", "conv1", "relu1"}
    for node in graph.node:  # a product in the decoding is no output layer
        if node.op_type == "Mul" and node.name == "times_stride":
            node.op_type = "MatMul"
    assert head_and_behind(graph, ["Conv"]) == apart
    assert "box" not in head_and_behind(graph)  # but of logits it would be


def test_groups_are_as_fine_as_they_may_be_many():
    found = {name: name for name in ("net.0.a", "net.0.b", "net.1.a")}
    assert list(groups(found, found, most=3)) == ["net.0.a", "net.0.b", "net.1.a"]
    assert list(groups(found, found, most=2)) == ["net.0", "net.1"]
    assert list(groups(found, found, most=1)) == ["net"]
