"""The student on the device: a checkpoint or exported files, one for all cameras or one for each."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from lkd.edge.export.preprocessing import said_names
from lkd.edge.exported import Exported
from lkd.edge.predict.checkpoint import Checkpoint
from lkd.edge.predict.predictor import Predictor, RunnableStudent
from lkd.models import PerCamera

Files = str | Mapping[str, str]
"""An exported file, or one for each camera by name."""


def student_of(
    module: LightningModule | None,
    data: LightningDataModule,
    ckpt_path: str | None,
    exported: Files | None,
    threads: int,
) -> Callable[[str], RunnableStudent]:
    """Returns a function that gives the student of each camera.

    Args:
        module: Module of the checkpoint's class.
        data: Data that it was trained on.
        ckpt_path: The checkpoint.
        exported: Files in place of the checkpoint.
        threads: Number of threads of a file's runtime.

    Raises:
        ValueError: If both or neither are given.
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

        def of_file(camera: str) -> RunnableStudent:
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
    def of_copy(camera: str | None) -> RunnableStudent:
        return Checkpoint(module, data, str(ckpt_path), camera)

    return lambda camera: of_copy(camera if copies else None)


def specs_of(
    student: Callable[[str], RunnableStudent], cameras: Iterable[str], kind: str, who: str
) -> list[dict[str, Any]]:
    """Returns the metadata of all cameras' students, each once, so that a missing or wrong one shows first.

    Args:
        student: Gives the student of a camera.
        cameras: All cameras that will be asked about.
        kind: Kind that the students must have, `"boxes"` or `"logits"`.
        who: The data, for messages.

    Raises:
        ValueError: If a camera has no student, if one is of another kind, or if the classes differ between
            cameras.
    """
    found: list[dict[str, Any]] = []
    for camera in dict.fromkeys(cameras):
        spec = student(camera).spec
        if spec["kind"] != kind:
            raise ValueError(
                f"the student answers with {spec['kind']}, and of {who} offload needs one that answers with {kind}: a detector takes "
                "frames of a DetectionDataModule, a classifier pictures of a classifier's data."
            )
        if found and spec["classes"] != found[0]["classes"]:
            raise ValueError(
                f"exported: the file of the camera {camera!r} has the classes {spec['classes']}, and another has {found[0]['classes']}: "
                "give files of the same classes in the same order."
            )
        if spec not in found:
            found.append(spec)
    return found


def known_classes(
    spec: Mapping[str, Any], module: LightningModule | None, data: LightningDataModule
) -> SimpleNamespace:
    """Returns the names of a student's classes, where known, and their number: `class_names`, `num_classes`.

    Args:
        spec: Metadata of the student.
        module: Module of a checkpoint; None for a file, which has its own names, or numbers where they were
            not known.
        data: Data module whose labels measure; their classes must be those of a file.

    Raises:
        ValueError: If a file has other classes, or another order of them.
    """
    classes: list[str] = spec["classes"]
    if module is not None:
        return SimpleNamespace(class_names=getattr(module, "class_names", None), num_classes=len(classes))
    names = classes if any(name != str(k) for k, name in enumerate(classes)) else None
    theirs = said_names(data)
    if theirs and (
        len(theirs) != len(classes) or (len(classes) > 1 and names is not None and names != theirs)
    ):
        raise ValueError(
            f"exported: the file's classes are {classes}, and those of {type(data).__name__} are {theirs}: labels would be taken for "
            "others; give a file of these classes in this order."
        )
    return SimpleNamespace(class_names=names, num_classes=len(classes))


def predictor_of(student: Callable[[str], RunnableStudent], who: str) -> Callable[[str], Predictor]:
    """Returns detectors for whole pictures, which keep faint boxes down to the student's own threshold.

    Args:
        student: Gives the student of a camera.
        who: Name of the student, for messages.
    """
    made: dict[int, Predictor] = {}

    def of(camera: str) -> Predictor:
        found = student(camera)
        if id(found) not in made:
            least: Any = found.spec.get("score_threshold", 0.0)
            made[id(found)] = Predictor(found, who, float(least) if found.spec["kind"] == "boxes" else None)
        return made[id(found)]

    return of
