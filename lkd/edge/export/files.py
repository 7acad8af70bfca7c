"""Writing of a student's files: exported, run, compared, measured, and kept only if all of that is good."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lkd import __version__
from lkd.edge.export.boxes import DetectorKind
from lkd.edge.export.card import write_card
from lkd.edge.export.graph import OPSET, to_graph
from lkd.edge.export.kind import ExportPart, StudentKind, arrays
from lkd.edge.export.measure import Metrics, check_drop, measured
from lkd.edge.export.parity import Parity
from lkd.edge.export.preprocessing import class_names, described_inputs
from lkd.edge.export.students import TrainedStudent, file_names
from lkd.edge.export.tail import with_suppression
from lkd.edge.exported import KEY, VERSION, Exported, files
from lkd.edge.extra import optional
from lkd.edge.latency import latency
from lkd.edge.openvino_file import to_openvino

Format = Literal["onnx", "openvino"]


def write_files(
    student: TrainedStudent,
    kind: StudentKind,
    folder: Path,
    content: Mapping[str, Any],
    classes: Sequence[str] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    tolerance: float,
    max_drop: float,
    threads: int,
    format: Format = "onnx",
) -> list[Path]:
    """Writes all files of a student and their cards, or none of them.

    Args:
        student: The student.
        kind: Its kind.
        folder: Folder to write into.
        content: Entries of the cards, besides what is measured here.
        classes: Names of the classes; None for those of the module, or of the data.
        mean: Mean of each channel, see `described_inputs`.
        std: Deviation of each channel, see `described_inputs`.
        tolerance: Largest difference of outputs, see `Parity`.
        max_drop: How much worse a metric may be, see `check_drop`.
        threads: Number of threads in the timing.
        format: Format of the files.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If it cannot be exported, or the file is not as good as the module.
    """
    data, own = student.test.data, getattr(kind.module, "class_names", None)
    watched = kind.watch(getattr(kind.module, kind.method))
    before = measured(kind, student.test, watched, as_it_is=True, ckpt_path=student.ckpt_path)
    parts = {part.name: part for part in kind.parts()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=folder) as draft:
        paths: dict[str, Path] = {}
        for (name, part), safe in zip(parts.items(), file_names(list(parts)), strict=True):
            paths[name] = Path(draft, "_".join(["student", *filter(None, (student.name, safe))]) + ".onnx")
            inputs = described_inputs(part, kind.name, data, mean, std)
            spec = {
                "version": VERSION,
                "lkd": __version__,
                "kind": kind.name,
                "inputs": inputs,
                "classes": class_names(classes or own, data, part.classes),
                **kind.options(),
            }
            _write(kind, part, spec, paths[name])
            if format == "openvino":
                paths[name] = to_openvino(paths[name])
        exported = {name: Exported(path) for name, path in paths.items()}
        parity = {name: Parity(tolerance) for name in parts}
        after = measured(kind, student.test, kind.stand_in(parts, exported, parity), as_it_is=False)
        for name, path in paths.items():
            parity[name].check()
            metrics = {"checkpoint": before.get(name, {}), "file": after.get(name, {})}
            check_drop(metrics["checkpoint"], metrics["file"], max_drop)
            timed = latency(path, arrays(parts[name].inputs), threads)
            parts_of_card = _of_file(kind, exported[name], metrics, parity[name], student.test.what)
            count = sum(p.numel() for p in parts[name].network.parameters())
            write_card(path, {**parts_of_card, "latency": timed, **content}, count)
        done = [folder / path.name for path in paths.values()]
        for path, end in zip(paths.values(), done, strict=True):
            for piece in (*files(path), path.with_suffix(".json")):
                piece.replace(end.with_suffix(piece.suffix))
    return done


def _write(kind: StudentKind, part: ExportPart, spec: dict[str, Any], path: Path) -> None:
    onnx = optional("onnx")
    graph = to_graph(part.network, part.inputs, part.outputs)
    if isinstance(kind, DetectorKind) and kind.nms == "inside":
        graph = with_suppression(graph, *kind.thresholds, kind.multi_label)
    onnx.helper.set_model_props(graph, {KEY: json.dumps(spec, ensure_ascii=False)})
    onnx.save(graph, str(path))


def _of_file(
    kind: StudentKind, file: Exported, metrics: dict[str, Metrics], parity: Parity, what: str
) -> dict[str, Any]:
    name = "openvino" if file.path.suffix == ".xml" else "onnx"
    return {
        "student": {"class": type(kind.module).__name__, **file.spec},
        "metrics": {
            **metrics,
            "data": what,
            "samples": parity.samples,
            "run by": file.backend.runtime,
        },
        "parity": {
            "difference": parity.difference,
            "tolerance": parity.tolerance,
            "samples": parity.samples,
        },
        "format": {"name": name, "opset": OPSET},
    }
