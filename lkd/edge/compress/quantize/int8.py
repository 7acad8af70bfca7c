"""Post-training quantization of an exported file by ONNX Runtime's quantizer."""

import contextlib
import copy
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lkd.edge.compress.quantize.layers import TYPES, WEIGHTED, head_and_behind, layers, named
from lkd.edge.exported import KEY
from lkd.edge.extra import optional
from lkd.edge.nms import Array

Method = Literal["percentile", "minmax"]
AT_ONCE = 4
"""Frames whose activations are in memory together while ranges are computed."""


class Calibrated:
    """A file with known ranges of its activations, from which files with any quantized nodes can be written.

    Weights are signed and have a scale for each output channel; activations are unsigned with a zero point
    (QDQ).

    Args:
        path: The exported float file.
        frames: Samples as the file takes them, `(1, ...)` or more each, by the inputs' names.
        method: How ranges are found: `percentile` leaves out the outermost thousandth of a percent, `minmax`
            nothing.
        keep_float: Names of layers that stay float, besides the output layers and what follows them.

    Attributes:
        layers: Layer of the student, for each node.
        nodes: Names of the nodes that are quantized.

    Raises:
        ValueError: Without a frame, for a layer that does not exist, or if there is nothing to quantize.
    """

    def __init__(
        self,
        path: Path,
        frames: Sequence[Mapping[str, Array]],
        method: Method = "percentile",
        keep_float: Sequence[str] = (),
    ) -> None:
        if not frames:
            raise ValueError("there is no frame to calibrate on: int8 needs some of the camera's own.")
        self._properties = _properties(path)
        with tempfile.TemporaryDirectory() as folder, _quiet():
            before = Path(folder, "before.onnx")
            _prepared(path, before)
            self._model = optional("onnx").load(before)
            self.layers = layers(self._model.graph)
            boxes = json.loads(self._properties[KEY])["kind"] == "boxes"
            apart = head_and_behind(self._model.graph, ["Conv"] if boxes else WEIGHTED)
            apart |= named(self.layers, keep_float)
            self.nodes = [
                n.name for n in self._model.graph.node if n.op_type in TYPES and n.name not in apart
            ]
            if not self.nodes:
                raise ValueError(
                    f"{path} has nothing to quantize: no {', '.join(TYPES[:3])} before its output layer that keep_float leaves."
                )
            front = Path(folder, "front.onnx")
            optional("onnx").save(_front(self._model, self.nodes), str(front))
            self._ranges = _ranges(front, Path(folder, "augmented.onnx"), frames, method)

    def input_ranges(self) -> dict[str, tuple[float, float]]:
        """Returns input ranges of the quantized layers that have weights of their own, by the layers' names.

        If a layer runs several times, such as a head that all maps go through, the range covers all of its
        inputs.
        """
        weights = {tensor.name for tensor in self._model.graph.initializer}
        found: dict[str, tuple[float, float]] = {}
        for node in self._model.graph.node:
            own = node.op_type in WEIGHTED and node.input[1] in weights and "." in node.input[1]
            if own and node.name in self.nodes:
                # minmax gives them as arrays of one number
                low, high = (end.item() for end in self._ranges[node.input[0]].range_value)
                known = found.get(self.layers[node.name], (low, high))
                found[self.layers[node.name]] = min(low, known[0]), max(high, known[1])
        return found

    def write(self, path: Path, nodes: Sequence[str] | None = None) -> None:
        """Writes the quantized file, with the metadata of the float one.

        Args:
            path: Where to write the file.
            nodes: Nodes to quantize; None for all of `self.nodes`.
        """
        quantization = optional("onnxruntime.quantization")
        chosen = list(self.nodes if nodes is None else nodes)
        with _quiet():
            quantizer = optional("onnxruntime.quantization.qdq_quantizer").QDQQuantizer(
                copy.deepcopy(self._model),
                True,  # a scale for each output channel
                False,  # eight bits, not seven
                quantization.QuantType.QInt8,
                quantization.QuantType.QUInt8,
                copy.deepcopy(self._ranges),
                chosen,
                [],
                list(TYPES),
                {},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        made = quantizer.model.model
        optional("onnx").helper.set_model_props(made, self._properties)
        optional("onnx").save(made, str(path))


def quantize_file(
    path: Path,
    end: Path,
    frames: Sequence[Mapping[str, Array]],
    method: Method = "percentile",
    keep_float: Sequence[str] = (),
) -> Calibrated:
    """Writes an exported file in int8.

    Args:
        path: The float file.
        end: Where to write.
        frames: As in `Calibrated`.
        method: As in `Calibrated`.
        keep_float: As in `Calibrated`.

    Returns:
        The file with its ranges, for further files.

    Raises:
        ValueError: As in `Calibrated`.

    Example:
        >>> quantize_file(Path("student.onnx"), Path("int8.onnx"), frames)  # doctest: +SKIP
    """
    calibrated = Calibrated(path, frames, method, keep_float)
    calibrated.write(end)
    return calibrated


def _properties(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in optional("onnx").load(path).metadata_props}


def _prepared(path: Path, end: Path) -> None:
    """Runs ONNX Runtime's step before quantization, which infers shapes (needed by it) and fuses layers."""
    prepare = optional("onnxruntime.quantization.shape_inference").quant_pre_process
    start = str(path.resolve())
    with contextlib.chdir(end.parent):  # if symbolic inference fails, it leaves a file in the working folder
        try:
            prepare(start, end.name)
        except Exception:  # it needs sympy, and does not know every operator; ONNX's own inference is left
            prepare(start, end.name, skip_symbolic_shape=True)
    onnx = optional("onnx")
    graph = onnx.load(end)
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    versions = {entry.domain: entry.version for entry in graph.opset_import}  # one may be there twice
    del graph.opset_import[:]  # ONNX Runtime lists all versions that it knows
    used = sorted({node.domain for node in graph.graph.node})
    graph.opset_import.extend(onnx.helper.make_opsetid(domain, versions[domain]) for domain in used)
    onnx.save(graph, str(end))


def _front(model: Any, nodes: Sequence[str]) -> Any:
    """Returns the part of a file that is quantized, with what it needs.

    What follows is cut off, since a suppression there has as many rows as it finds boxes.
    """
    front = copy.deepcopy(model)
    graph, chosen = front.graph, set(nodes)
    needed: set[str] = set()
    kept = []
    for node in reversed(graph.node):
        if node.name in chosen or needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    made = {name for node in kept for name in node.output}
    ends = [name for node in kept if node.name in chosen for name in node.output if name]
    types = {value.name: value for value in (*graph.value_info, *graph.output)}
    outputs = [types[name] for name in ends if name in types]
    del graph.node[:], graph.output[:]
    graph.node.extend(reversed(kept))
    graph.output.extend(outputs)
    infos = [value for value in graph.value_info if value.name in made and value.name not in ends]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    return front


def _ranges(path: Path, augmented: Path, frames: Sequence[Mapping[str, Array]], method: Method) -> Any:
    calibrate = optional("onnxruntime.quantization.calibrate")
    kind = {"percentile": "Percentile", "minmax": "MinMax"}[method]
    extra = {"symmetric": False} if method == "percentile" else {}
    calibrator = calibrate.create_calibrator(
        path,
        list(TYPES),
        augmented_model_path=str(augmented),
        calibrate_method=getattr(calibrate.CalibrationMethod, kind),
        extra_options=extra,
    )
    for start in range(0, len(frames), AT_ONCE):
        calibrator.collect_data(_Reader(frames[start : start + AT_ONCE]))
    return calibrator.compute_data()


class _Reader:
    """A `CalibrationDataReader`, of which only this method is called."""

    def __init__(self, frames: Sequence[Mapping[str, Array]]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict[str, Array] | None:
        frame = next(self._left, None)
        return None if frame is None else dict(frame)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the quantizer prints of each tensor."""
    logger, level = logging.getLogger(), logging.getLogger().level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
