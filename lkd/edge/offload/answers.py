"""Answers of student and teacher on the samples of a split, with their costs.

They are kept in files and read without torch.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lkd.edge.nms import Array

Answer = Mapping[str, Array]
"""An answer: for a detector `boxes` (D, 4) x1 y1 x2 y2 in pixels of the picture, `scores` (D,), `labels` (D,);
for a classifier
`probabilities` (C,)."""
NUMBERS = ("sizes", "nbytes", "device_ms", "server_ms")


@dataclass(frozen=True)
class Answers:
    """Answers on N samples, each with U units that can be sent: the whole picture (U = 1), or tiles of it.

    Attributes:
        local: The student's answers.
        remote: The teacher's answers to each unit as it is sent, boxes in pixels of the unit.
        sizes: `(N, 2)`, height and width of each picture.
        nbytes: `(N, U)`, bytes of each unit as it is sent.
        device_ms: `(N,)`, time of the student.
        server_ms: `(N, U)`, time of the teacher.
        cameras: The camera of each sample, N names; empty ones where it is not known.
        truth: The true answer to each sample; None if labels may not be read.
    """

    local: Sequence[Answer]
    remote: Sequence[Sequence[Answer]]
    sizes: Array
    nbytes: Array
    device_ms: Array
    server_ms: Array
    cameras: Sequence[str] = ()
    truth: Sequence[Answer] | None = None

    def __len__(self) -> int:
        return len(self.local)

    @property
    def units(self) -> int:
        """Number of units U of a sample."""
        return int(self.nbytes.shape[1])

    def save(self, path: Path) -> None:
        """Writes all but cameras and truth, completely or not at all."""
        flat = [answer for units in self.remote for answer in units]
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in NUMBERS}
        tensors |= _packed("local", self.local) | _packed("remote", flat)
        draft = path.with_name(path.name + ".part")
        save_file(tensors, draft)
        os.replace(draft, path)

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Reads what `save` wrote.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): delete it, and it is asked anew.") from error
        numbers = {name: tensors[name] for name in NUMBERS}
        units, flat = numbers["nbytes"].shape[1], _unpacked("remote", tensors)
        remote = [flat[start : start + units] for start in range(0, len(flat), units)]
        return cls(_unpacked("local", tensors), remote, **numbers, cameras=(), truth=None)


def joined(
    parts: Sequence[Answers], cameras: Sequence[str], truth: Sequence[Answer] | None = None
) -> Answers:
    """Joins parts of a split, one after the other.

    Args:
        parts: At least one.
        cameras: Cameras of all samples.
        truth: True answers to all samples.
    """
    numbers = {name: np.concatenate([getattr(part, name) for part in parts]) for name in NUMBERS}
    local = [answer for part in parts for answer in part.local]
    remote = [units for part in parts for units in part.remote]
    return Answers(local, remote, **numbers, cameras=list(cameras), truth=truth)


def _packed(who: str, answers: Sequence[Answer]) -> dict[str, Array]:
    """Packs answers of several lengths as one array for each of their entries."""
    rows = np.array([len(next(iter(answer.values()))) for answer in answers])
    entries = {f"{who}/{name}": np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    return {f"{who}.rows": rows, **entries}


def _unpacked(who: str, tensors: Mapping[str, Array]) -> list[Answer]:
    ends = np.concatenate([[0], np.cumsum(tensors[f"{who}.rows"])])
    names = [name for name in tensors if name.startswith(f"{who}/")]
    return [
        {name.removeprefix(f"{who}/"): tensors[name][start:end] for name in names}
        for start, end in pairwise(ends.tolist())
    ]
