"""Multiply-accumulates of one sample, with equal results for a network and for its file."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lkd.edge.extra import optional
from lkd.metrics.flops import FlopCount


def macs(network: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Counts the multiply-accumulates of a network (half of the FLOPs that torch's own formulas count).

    Args:
        network: A network that takes the inputs by position.
        inputs: One sample or more of each.

    Example:
        >>> macs(nn.Linear(3, 2), {"x": torch.zeros(5, 3)})
        6
    """
    with torch.no_grad(), FlopCount() as count:
        network(*(tensor[:1] for tensor in inputs.values()))
    return count.total // 2


def file_macs(path: Path) -> int | None:
    """Counts multiply-accumulates of an ONNX file's convolutions and matrix products, float or int8.

    Args:
        path: A file whose first dimension is the batch.

    Returns:
        The number, or None if a shape is not known without running the file.
    """
    onnx = optional("onnx")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim[:1]:
            if dim.dim_param == "batch":
                dim.dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, list[int]] = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        out, given, weight = (shapes.get(name) for name in (node.output[0], *node.input[:2]))
        if not out or not given or not weight or not all(out):
            return None
        inner = math.prod(weight[1:]) if node.op_type == "Conv" else given[-1]
        if not inner:
            return None
        total += math.prod(out) * inner
    return total
