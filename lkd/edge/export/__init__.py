"""`export`: writes a trained student as a file that runs without torch and lkd, with a card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from lkd import __version__
from lkd.checks import expect
from lkd.edge.export.boxes import NMS, DetectorKind
from lkd.edge.export.files import Format, write_files
from lkd.edge.export.kind import StudentKind
from lkd.edge.export.licenses import licenses as licenses_of
from lkd.edge.export.logits import ClassifierKind
from lkd.edge.export.measure import check_measurable
from lkd.edge.export.modalities import MultimodalKind
from lkd.edge.export.precision import check_precision
from lkd.edge.export.privacy import privacy_of
from lkd.edge.export.students import TrainedStudent, students
from lkd.edge.exported import sha256
from lkd.edge.extra import optional
from lkd.models import PerCamera
from lkd.modules import Detector, MultimodalClient
from lkd.server_model import server_model

__all__ = ["export"]


def export(
    module: LightningModule,
    data: LightningDataModule,
    ckpt_path: str,
    folder: str = "export",
    format: Format = "onnx",
    nms: NMS = "inside",
    only: Sequence[str] | None = None,
    input_size: tuple[int, int] | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    licenses: Mapping[str, str] | None = None,
    tolerance: float = 0.001,
    max_drop: float = 0.01,
    threads: int = 1,
    limit_test_batches: float | int | None = None,
    config: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Writes a trained student as a file, `student.onnx`, with its card `student.json`.

    The module's own test runs twice on the CPU: as it is, and with the file in its place, by ONNX Runtime or
    OpenVINO. Every output is compared on the way. A difference above `tolerance`, or a metric worse by more
    than `max_drop`, is an error, and nothing is written.

    Detectors with a copy for each camera, and federations whose clients have models of their own, give one
    file each: `student_<name>.onnx`. See docs/deploy.md.

    Args:
        module: A classifier (any LightningModule whose forward takes one tensor and gives logits),
            `MultimodalClient`, `Detector`, or a `Federation` of these. Its weights are read from `ckpt_path`.
        data: Data module whose test data the file is measured on.
        ckpt_path: The checkpoint.
        folder: Folder to write into.
        format: Format of the file: ONNX, or OpenVINO's pair of `student.xml` and `student.bin`.
        nms: Where a detector's suppression is done: inside of the file, or beside it, in a NumPy function.
        only: Cameras or clients to export; a federation's `"server"`. Default: all cameras; of a federation
            all clients whose models differ, else the server's model.
        input_size: Height and width of a detector's input, in pixels. Default: the largest of the test data,
            by camera.
        score_threshold: Score threshold of a detector; default that of the module. File and checkpoint are
            measured with it.
        iou_threshold: IoU threshold of a detector's suppression; default that of the module.
        classes: Names of the classes; default those of the module (`Detector(class_names=...)`) or of the
            data, else numbers.
        mean: Mean of each channel, for the metadata, where the data do not say how they are normalized.
        std: Deviation of each channel, likewise.
        licenses: Entries of the card for `code`, `weights`, `teacher` and `data`.
        tolerance: Largest difference between outputs of file and module, as a share of the largest output (or
            of 1).
        max_drop: How much worse a metric of the file may be.
        threads: Number of threads in the timing.
        limit_test_batches: Most test batches, for a first try; the card says how many samples there were.
        config: Configuration of the run, for the card.

    Returns:
        The paths of the files, `.onnx` or `.xml`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ImportError: Without the extra `edge`.
        ValueError: If something does not fit, cannot be exported, or is not good enough.

    Example:
        >>> export(Classifier("resnet18"), Digits(), "last.ckpt")  # doctest: +SKIP
        [PosixPath('export/student.onnx')]
    """
    expect(format=format, among=("onnx", "openvino"), why="docs/deploy.md says how to go on from there")
    expect(nms=nms, among=("inside", "beside"))
    expect(tolerance=tolerance, max_drop=max_drop, ge=0)
    expect(threads=threads, ge=1)
    if (mean is None) != (std is None):
        raise ValueError(f"mean={mean} and std={std} must be given together.")
    if not Path(ckpt_path).is_file():
        raise FileNotFoundError(f"ckpt_path={ckpt_path!r} does not exist; give the path of a checkpoint.")
    for package in ("onnx", "onnxscript", "openvino" if format == "openvino" else "onnxruntime"):
        optional(package)
    check_measurable(server_model(module), data)
    stated = licenses_of(server_model(module), config, licenses)
    written = []
    for student in students(module, data, ckpt_path, only, limit_test_batches):
        kind = kind_of(student, nms, only, input_size, score_threshold, iou_threshold)
        content = {
            "provenance": {
                "lkd": __version__,
                "torch": torch.__version__,
                "onnx": optional("onnx").__version__,
                "checkpoint": {"path": ckpt_path, "sha256": sha256(Path(ckpt_path))},
                "client": student.name or None,
                "data": type(data).__name__,
                "seed": (config or {}).get("seed_everything"),
                "config": config,
            },
            "licenses": stated,
            **privacy_of(ckpt_path, student.name or None),
        }
        written += write_files(
            student, kind, Path(folder), content, classes, mean, std, tolerance, max_drop, threads, format
        )
    return written


def kind_of(
    student: TrainedStudent,
    nms: NMS,
    only: Sequence[str] | None,
    input_size: tuple[int, int] | None,
    score_threshold: float | None,
    iou_threshold: float | None,
) -> StudentKind:
    """Returns the kind of a student.

    Args:
        student: The student.
        nms: As in `export`.
        only: As in `export`.
        input_size: As in `export`.
        score_threshold: As in `export`.
        iou_threshold: As in `export`.

    Raises:
        ValueError: For arguments that this kind does not take, or weights that are not float32.
    """
    module, plain = student.module, student.ckpt_path is not None
    if isinstance(module, Detector | MultimodalClient):
        check_precision(module)
    if isinstance(module, Detector):
        if plain and only is not None and not isinstance(module.network, PerCamera):
            raise ValueError(
                f"only={list(only)}: this detector is one network for all cameras, and one file."
            )
        cameras = only if plain else None  # in a federation they name clients
        return DetectorKind(module, nms, input_size, cameras, score_threshold, iou_threshold)
    who = type(module).__name__
    if plain and only is not None:
        raise ValueError(f"only={list(only)}: {who} is one file; leave it out.")
    asked = {"input_size": input_size, "score_threshold": score_threshold, "iou_threshold": iou_threshold}
    for name, value in asked.items():
        if value is not None:
            raise ValueError(f"{name}={value} is of detectors, and {who} is none: leave it out.")
    return MultimodalKind(module) if isinstance(module, MultimodalClient) else ClassifierKind(module)
