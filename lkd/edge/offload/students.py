"""The student on the device: a checkpoint or exported files, one for all cameras or one for each."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from lkd.edge.exported import Exported
from lkd.edge.predict.checkpoint import Checkpoint
from lkd.edge.predict.predictor import Predictor, Student
from lkd.models import PerCamera

Files = str | Mapping[str, str]
"""An exported file, or one for each camera by name."""


def student_of(
    module: LightningModule | None,
    data: LightningDataModule,
    ckpt_path: str | None,
    exported: Files | None,
    threads: int,
) -> Callable[[str], Student]:
    """Who answers for a camera.

    Args:
        module: Of the checkpoint's class.
        data: What it was trained on.
        ckpt_path: The checkpoint.
        exported: Files in its place.
        threads: Of a file's run-time.

    Raises:
        ValueError: If there are both or neither.
    """
    if (exported is None) == (ckpt_path is None):
        have = (
            f"both ckpt_path={ckpt_path!r} and exported={exported!r}"
            if ckpt_path
            else "neither ckpt_path nor exported"
        )
        raise ValueError(f"{have}: the student is a checkpoint or an exported file.")
    if isinstance(exported, str):
        one = Exported(exported, threads)
        return lambda camera: one
    if exported is not None:
        files = {name: Exported(path, threads) for name, path in exported.items()}

        def of_file(camera: str) -> Student:
            if camera not in files:
                raise ValueError(
                    f"exported has no file for the camera {camera!r}: it has {', '.join(files)}; give one for each camera of the data."
                )
            return files[camera]

        return of_file
    if module is None:
        raise ValueError(f"ckpt_path={ckpt_path!r} needs its module, too.")
    copies = isinstance(getattr(module, "network", None), PerCamera)

    @cache
    def of_copy(camera: str | None) -> Student:
        return Checkpoint(module, data, str(ckpt_path), camera)

    return lambda camera: of_copy(camera if copies else None)


def predictor_of(student: Callable[[str], Student], who: str) -> Callable[[str], Predictor]:
    """Detections of whole pictures, faint ones too: as many as the student's own threshold leaves.

    Args:
        student: By camera.
        who: For messages.
    """
    made: dict[int, Predictor] = {}

    def of(camera: str) -> Predictor:
        found = student(camera)
        if id(found) not in made:
            least: Any = found.spec.get("score_threshold", 0.0)
            made[id(found)] = Predictor(found, who, float(least) if found.spec["kind"] == "boxes" else None)
        return made[id(found)]

    return of
