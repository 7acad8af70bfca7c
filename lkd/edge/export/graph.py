"""Export of a network to an ONNX graph, with an error that names the layer which cannot be exported."""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkd.edge.extra import optional

OPSET = 18
"""Opset of ONNX: old enough for the runtimes of devices, and new enough for lkd's networks."""


def to_graph(network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    """Exports a network in eval mode, with any number of samples.

    Args:
        network: Maps tensors `(B, ...)` by position to a tensor or a tuple of them, B first.
        inputs: Example of each input, by name, in the order of its arguments.
        outputs: Names of the outputs.

    Returns:
        The `onnx.ModelProto`, with the weights inside.

    Raises:
        ValueError: If an operator cannot be exported, with the layer that it is in.
        ImportError: Without the extra.
    """
    for name in ("onnx", "onnxscript"):
        optional(name)
    # with a batch of one, export would take the one for a constant
    examples = tuple(torch.cat([x, x])[: max(2, len(x))] for x in inputs.values())
    with _quiet(), torch.no_grad():
        program = _traced(network, examples)
        try:
            made = torch.onnx.export(
                program,
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
            )
        except Exception as error:
            raise ValueError(_unknown(error, program)) from error
    assert made is not None
    return _without_traces(_named_batch(made.model_proto))


def _traced(network: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    batch, shapes = torch.export.Dim("batch"), torch.export.ShapesCollection()
    for example in examples:
        shapes[example] = {0: batch}
    running: list[str] = []
    handles = []
    for name, layer in network.named_modules():
        label = f"{_short(name)!r} ({type(layer).__name__})"
        handles.append(layer.register_forward_pre_hook(lambda *_, label=label: running.append(label)))
        # not reached where the forward raises, so that the last label is that of the layer that did
        handles.append(layer.register_forward_hook(lambda *_: running.pop() and None))
    try:
        return torch.export.export(network, examples, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        why = _first_line(error)
        if running:
            raise ValueError(
                f"the layer {running[-1]} cannot be exported ({why}): what it computes must not depend on the values of its "
                "input in Python, and must be made of torch's operators."
            ) from error
        raise ValueError(
            f"it cannot be exported ({why}): the file must take any number of samples, and some layer fixes it, as "
            "x.view(2, -1) or len(x) would; use x.shape[0], or x.flatten(1)."
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _unknown(error: BaseException, program: Any) -> str:
    """Returns which layer has the operator that ONNX lacks."""
    said, node = [], ""
    cause: BaseException | None = error
    while cause is not None:
        said.append(str(cause))
        if found := re.search(r"translating node %(\w+)", str(cause)):
            node = found[1]
        cause = cause.__cause__
    names = re.findall(r"op='([\w.]+)'", said[-1])
    operator = names[0] if names else (node or "an operator")
    stack: dict[str, Any] = {}
    short = operator.rpartition(".")[2]  # the exporter may have made it of another with this in its name
    for one in [*program.graph.nodes, *program.run_decompositions().graph.nodes]:
        if one.op == "call_function" and (one.name == node or short in str(one.target)):
            stack = stack or one.meta.get("nn_module_stack", {})
    where = list(stack.values())[-1] if stack else None
    layer = f"the layer {_short(where[0])!r} ({str(where[1]).rpartition('.')[2]})" if where else "a layer"
    return f"{layer} uses {operator}, which cannot be exported to ONNX ({_first_line(said[-1])}): use another operator there."


def _short(name: str) -> str:
    """Returns the name of a layer in the user's module, without the wrapper's own."""
    return name.removeprefix("module.") if name != "module" else ""


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split(" For more information")[0].rstrip(".!") if lines else type(error).__name__


def _named_batch(graph: Any) -> Any:
    """Names the first dimension of inputs and outputs "batch"; the exporter has names of its own."""
    first = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == first:
                dim.dim_param = "batch"
    return graph


def _without_traces(graph: Any) -> Any:
    """Removes the source positions of nodes: they are paths of this machine, and a fifth of a small file."""
    for part in (*graph.graph.node, *graph.graph.value_info):
        part.ClearField("metadata_props")
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporter's own reports; our messages repeat what matters in them."""
    names = ("torch.onnx", "torch.fx.experimental.symbolic_shapes", "torch.export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
