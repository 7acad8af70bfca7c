"""`Exported`: a student read from its file and run on NumPy arrays, without torch or lkd's models."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lkd.checks import expect
from lkd.edge.nms import Array, suppress
from lkd.edge.onnx_file import OnnxFile
from lkd.edge.openvino_file import OpenVINOFile

VERSION = 1
"""Version of the metadata in a file and of the card beside it. A reader takes its own version only."""
KEY = "lkd"
"""Key of the metadata in the file."""
BACKENDS: dict[str, type[OnnxFile] | type[OpenVINOFile]] = {".onnx": OnnxFile, ".xml": OpenVINOFile}
PRESENT = "present"
"""Input of a student of several modalities: which sample has which, `(B, M)` bool in the order of the other inputs."""


class Exported:
    """A student as a file: NumPy in, NumPy out, by ONNX Runtime or OpenVINO on the CPU.

    Args:
        path: The `.onnx` that `export` wrote, or the `.xml` with its `.bin` beside it.
        threads: Number of threads of the runtime. Default: one, as on a small device.

    Attributes:
        backend: The file loaded by its runtime; `backend.runtime` names it.
        spec: Metadata of the file: kind, inputs, preprocessing, classes, thresholds, NMS.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no file that lkd exported, or one of another version.

    Example:
        >>> student = Exported("runs/digits/export/student.onnx")  # doctest: +SKIP
        >>> student(np.zeros((2, 1, 8, 8), np.float32)).shape  # doctest: +SKIP
        (2, 10)
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self.path = Path(path)
        expect(threads=threads, ge=1)
        if not self.path.is_file():
            raise FileNotFoundError(f"path={str(path)!r} does not exist; give a .onnx that export wrote.")
        if self.path.suffix not in BACKENDS:
            raise ValueError(f"path={str(path)!r} must be a .onnx, or a .xml of OpenVINO, that export wrote.")
        self.backend = BACKENDS[self.path.suffix](self.path, threads)
        text = self.backend.written(KEY)
        if text is None:
            raise ValueError(
                f"path={str(path)!r} was not exported by lkd: its metadata has no entry {KEY!r}, which says what it takes."
            )
        self.spec: dict[str, Any] = json.loads(text)
        _check_version(self.spec, self.path)

    @property
    def card(self) -> dict[str, Any]:
        """Card beside the file, as a dict.

        Raises:
            FileNotFoundError: If there is no card.
            ValueError: If it belongs to another file or version.
        """
        path = self.path.with_suffix(".json")
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: the card lies beside its file, {self.path}.")
        try:
            card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no card: it is not JSON ({error}).") from error
        _check_version(card, path)
        if card["sha256"] != sha256(self.path):
            raise ValueError(
                f"{path} is the card of another file: {self.path} was changed, or exported again; export both together."
            )
        return card

    def __call__(self, x: Any) -> Any:
        """Returns the student's answer to a batch.

        Args:
            x: A prepared array as `spec["inputs"]` says, with any number of samples. For several modalities,
                a dict of arrays by name, with or without `"present"`: bools `(B,)` by modality. A modality
                that is left out is missing in all samples.

        Returns:
            Logits `(B, C)`; for a detector a list with a dict for each picture: `boxes (N, 4)` as x1, y1, x2,
            y2 in pixels of the input, `scores (N,)` descending and `labels (N,)`, wherever its NMS is done.

        Raises:
            ValueError: For arrays that the file does not take.
        """
        if self.spec["kind"] == "modalities":
            return self.run(self._modalities(x))["logits"]
        found = self.run({self.spec["inputs"][0]["name"]: x})
        return self.boxes(found, len(x)) if self.spec["kind"] == "boxes" else found["logits"]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name, as they leave the file.

        Raises:
            ValueError: For arrays that the file does not take.
        """
        for wanted in self.spec["inputs"]:
            _check_array(inputs.get(wanted["name"]), wanted)
        return self.backend.run(inputs)

    def _modalities(self, x: Any) -> dict[str, Array]:
        entries = [one for one in self.spec["inputs"] if one["name"] != PRESENT]
        names = [one["name"] for one in entries]
        given = {name: x[name] for name in names if name in x} if isinstance(x, dict) else {}
        if not given:
            raise ValueError(f"x must be a dict of arrays by modality, of {', '.join(names)}.")
        size, masks = len(next(iter(given.values()))), x.get(PRESENT) or {}
        there = [
            np.asarray(masks.get(name, np.ones(size, bool)))
            if name in given
            else np.zeros(size, bool)
            for name in names
        ]  # fmt: skip
        present = np.stack(there, 1)
        if not present.any(1).all():
            raise ValueError(f"a sample has none of the modalities {', '.join(names)}: leave it out.")
        for one in entries:
            given.setdefault(one["name"], np.zeros((size, *one["shape"][1:]), one["dtype"]))
        return {**given, PRESENT: present}

    def boxes(self, found: dict[str, Array], size: int) -> list[dict[str, Array]]:
        """Returns the detections of each picture, from what `run` gave for `size` pictures.

        Boxes are suppressed here if the file does not suppress them.
        """
        if self.spec["nms"] == "beside":
            limits = [self.spec[k] for k in ("score_threshold", "iou_threshold", "max_detections")]
            limits.append(self.spec.get("multi_label", False))  # older files do not have it
            pairs = zip(found["boxes"], found["scores"], strict=True)
            return [suppress(boxes, scores, *limits) for boxes, scores in pairs]
        rows = [found["detections"][found["detections"][:, 0] == number] for number in range(size)]
        return [{"boxes": r[:, 1:5], "scores": r[:, 6], "labels": r[:, 5].astype(np.int64)} for r in rows]


def files(path: Path) -> list[Path]:
    """Returns the files that a student consists of: OpenVINO's `.xml` has its weights beside it."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def sha256(path: Path) -> str:
    """Returns the digest of a file and of the files that belong to it, in hexadecimal."""
    digest = hashlib.sha256()
    for part in files(path):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _check_version(found: Mapping[str, Any], path: Path) -> None:
    if found.get("version") != VERSION:
        raise ValueError(
            f"{path} has the version {found.get('version')} of lkd's format, and this lkd reads version {VERSION}: export the "
            "checkpoint again with this lkd, or read it with the one that wrote it."
        )


def _check_array(value: Any, wanted: Mapping[str, Any]) -> None:
    shape = [*(f"{part}" for part in wanted["shape"])]
    says = f"{wanted['name']!r} must be a {wanted['dtype']} array of shape ({', '.join(shape)})"
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{says}, not {'missing' if value is None else type(value).__name__}.")
    fits = value.ndim == len(shape) and list(value.shape[1:]) == list(wanted["shape"][1:])
    if not fits or str(value.dtype) != wanted["dtype"] or not len(value):
        raise ValueError(f"{says}, not {value.dtype} {value.shape}.")
