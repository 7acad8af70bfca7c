"""The student on the device: a checkpoint or exported files, one for all cameras or one for each."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from lkd.edge.export.preprocessing import said_names
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


def specs_of(
    student: Callable[[str], Student], cameras: Iterable[str], kind: str, who: str
) -> list[dict[str, Any]]:
    """What the students of all cameras say of themselves, each once, so that a missing or another one is noticed first.

    Args:
        student: By camera.
        cameras: All that are to be asked.
        kind: That they have to be of, `"boxes"` or `"logits"`.
        who: The data, for messages.

    Raises:
        ValueError: If a camera has none, or they are of another kind, or their classes are not the same for all cameras.
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
    """What a student's classes are called, where anybody says, and how many there are: `class_names`, `num_classes`.

    Args:
        spec: What the student says of itself.
        module: Of a checkpoint; None for a file, which goes by its own names, or by numbers where nobody knew.
        data: Whose labels measure; their classes have to be a file's.

    Raises:
        ValueError: If those of a file are others, or in another order.
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
