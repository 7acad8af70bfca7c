"""The student's layer of each node of the graph, and which nodes stay float."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

WEIGHTED = ("Conv", "Gemm", "MatMul")
TYPES = (
    *WEIGHTED,
    "Mul",
    "Sigmoid",
    "Concat",
    "MaxPool",
    "Add",
    "Split",
    "Resize",
    "Relu",
    "Clip",
    "AveragePool",
)
"""Operators that are quantized. With convolutions alone, activations go through float in between, which costs
a tenth of the time."""


def head_and_behind(graph: Any, last: Sequence[str] = WEIGHTED) -> set[str]:
    """Returns the names of output layers and of what decodes them, from the last weighted nodes on.

    A detector's boxes are sums and products of numbers of very different size, which eight bits do not hold:
    with int8 decoding, a detector that would lose .004 of its mAP50-95 loses .07. In logits, eight bits make
    ties.

    Args:
        graph: `onnx.GraphProto`, its nodes in topological order, all with names.
        last: Operators that count as weighted; `["Conv"]` for detectors, whose decoding may have products of
            its own.
    """
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node.name)
    leads: dict[str, bool] = {}  # whether a node is weighted, or a weighted node follows it
    behind: dict[str, bool] = {}  # whether a weighted node follows it, itself left out
    for node in reversed(graph.node):
        behind[node.name] = any(leads[user] for name in node.output for user in users[name])
        leads[node.name] = behind[node.name] or node.op_type in last
    # constants and shapes beside the path are not followed by one either, and are float anyway
    return {node.name for node in graph.node if not behind[node.name]}


def layers(graph: Any) -> dict[str, str]:
    """Returns the student's layer of each node, such as `"net.model.3.conv"`.

    It is the layer of the node's weight, or of the weighted node before it.

    Args:
        graph: `onnx.GraphProto`, as in `head_and_behind`.

    Returns:
        Layers by the nodes' names; nodes before the first weight belong to the layer `""`.
    """
    weights = {tensor.name for tensor in graph.initializer}
    made: dict[str, str] = {}
    found: dict[str, str] = {}
    for node in graph.node:
        own = [name for name in node.input if name in weights and "." in name]
        before = [made[name] for name in node.input if made.get(name)]
        layer = short(own[0].rpartition(".")[0]) if own else (before[-1] if before else "")
        found[node.name] = layer
        made |= dict.fromkeys(node.output, layer)
    return found


def short(name: str) -> str:
    """Returns a layer's name in the user's module, without export's own wrappers.

    Example:
        >>> short("module.network.net.model.3.conv")
        'network.net.model.3.conv'
    """
    return name.removeprefix("module.")


def named(found: dict[str, str], wanted: Sequence[str]) -> set[str]:
    """Returns nodes of layers that a user names by the layer's name, the beginning of it, or the node's name.

    Args:
        found: The layer of each node.
        wanted: The names.

    Raises:
        ValueError: If a layer does not exist.
    """
    chosen: set[str] = set()
    for name in wanted:
        here = {node for node, layer in found.items() if node == name or f".{layer}.".find(f".{name}.") >= 0}
        if not here:
            there = ", ".join(dict.fromkeys(filter(None, found.values())))
            raise ValueError(f"keep_float={name!r} names no layer of this student; it has {there}.")
        chosen |= here
    return chosen


def groups(found: dict[str, str], nodes: Iterable[str], most: int = 24) -> dict[str, list[str]]:
    """Groups nodes by layers, by as many parts of the names as give no more groups than `most`.

    Args:
        found: The layer of each node.
        nodes: Nodes that are grouped.
        most: Most groups.

    Example:
        >>> groups({"a": "net.0.conv", "b": "net.0.act", "c": "net.1"}, ["a", "b", "c"], most=2)
        {'net.0': ['a', 'b'], 'net.1': ['c']}
    """
    chosen = list(nodes)
    longest = max((found[node].count(".") + 1 for node in chosen), default=1)
    for depth in range(longest, 0, -1):
        made = defaultdict(list)
        for node in chosen:
            made[".".join(found[node].split(".")[:depth])].append(node)
        if len(made) <= most:
            break
    return dict(made)
