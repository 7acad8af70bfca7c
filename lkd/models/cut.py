"""A network cut in two at a named layer: one part on a device, the rest on a server."""

import copy
from typing import cast

from torch import Tensor, fx, nn

from lkd.addresses import find_layer


class Cut:
    """The two parts of a network, `network(x) == cut.tail(cut.head(x))`, on the network's own weights.

    They compute as in evaluation. The forward functions of the layers around the cut are traced by
    `torch.fx`; all other layers are called as they are. Nothing is copied: training, moving or pruning the
    network changes the parts.

    Args:
        network: Network that maps a tensor to a tensor.
        layer: Address of a submodule, such as `"layer2"`, the last one in the head.

    Raises:
        ValueError: If there is no such layer, it does not run exactly once, the forward around it cannot be
            traced, or another value than this layer's output crosses the cut.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> cut, x = Cut(network, "1"), torch.ones(1, 4)
        >>> cut.head(x).shape, torch.equal(cut.tail(cut.head(x)), network(x))
        (torch.Size([1, 3]), True)
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        find_layer(network, layer, "layer")
        if layer == "":
            raise ValueError(
                "layer='' is the whole network, behind which nothing is left; name a layer of it."
            )
        self.network, self.layer = network, layer
        graph = _traced(copy.deepcopy(network).eval(), layer)  # its use of dropout becomes part of the trace
        where = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
        if len(where) != 1:
            raise ValueError(
                f"layer={layer!r} runs {len(where)} times in a forward of {type(network).__name__}; it can be cut at a layer that "
                "runs once."
            )
        self._head, self._tail = _until(graph, where[0]), _from(graph, where[0], layer)

    def head(self, x: Tensor) -> Tensor:
        """Returns the layer's output for an input `(B, ...)`."""
        return cast(Tensor, fx.Interpreter(self.network, graph=self._head).run(x))

    def tail(self, features: Tensor) -> Tensor:
        """Returns the network's output for the layer's output `features (B, ...)`."""
        return cast(Tensor, fx.Interpreter(self.network, graph=self._tail).run(features))


class _Around(fx.Tracer):
    """Tracer that enters only the modules that contain the layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._layer.startswith(f"{module_qualified_name}.")


def _traced(network: nn.Module, layer: str) -> fx.Graph:
    try:
        return _Around(layer).trace(network)
    except Exception as error:  # a forward may do anything that a traced value cannot
        raise ValueError(
            f"layer={layer!r}: the forward of {type(network).__name__} around it cannot be traced ({' '.join(str(error).split())[:200]}): "
            "cut at a layer that is called without conditions on values."
        ) from error


def _needed(node: fx.Node, given: fx.Node | None = None) -> set[fx.Node]:
    """Returns what has to run for a node to get its value, if `given` has its own already."""
    found: set[fx.Node] = set()
    ahead = [node]
    while ahead:
        if (one := ahead.pop()) is not given and one not in found:
            found.add(one)
            ahead += one.all_input_nodes
    return found


def _until(graph: fx.Graph, last: fx.Node) -> fx.Graph:
    needed, head = _needed(last), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = head.node_copy(node, copies.__getitem__)
    head.output(copies[last])
    return head


def _from(graph: fx.Graph, last: fx.Node, layer: str) -> fx.Graph:
    order = list(graph.nodes)
    needed, tail = _needed(order[-1], last), fx.Graph()
    for node in order[: order.index(last)]:
        if node in needed and node.op != "get_attr":
            raise ValueError(
                f"layer={layer!r} is not all that the rest of the network needs: {node.target!s} goes past it; cut where the ways meet."
            )
    copies = {last: tail.placeholder("features")}
    for node in order:
        if node in needed:
            copies[node] = tail.node_copy(node, copies.__getitem__)
    return tail
