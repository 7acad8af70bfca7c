"""Checks before students and teachers are asked, and before a table is made of nothing."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from lkd.checks import expect
from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.edge.offload.arms import Arm
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.gates import Gate, Learned, Oracle, Random, usual
from lkd.edge.offload.source import AnswerSource, Split
from lkd.edge.offload.task import OffloadTask
from lkd.edge.predict.reuse.asked import Reuse
from lkd.modules import Classifier, Detector
from lkd.teachers import Teacher
from lkd.teachers.classes import count_of

LEAST = 3
"""Fewest units for a regression."""
FAINTEST = 0.001
"""Score threshold of networks that name none, low enough for average precision."""


def check_module(module: LightningModule, data: LightningDataModule) -> None:
    """Refuses a checkpoint's module that cannot answer samples of the data."""
    frames = isinstance(data, DetectionDataModule)
    if isinstance(module, Detector if frames else Classifier):
        return
    raise ValueError(
        f"{type(module).__name__} is no {'Detector' if frames else 'Classifier'}, which {type(data).__name__} needs, with its "
        f"{'frames' if frames else 'pictures'}: give the student's own configuration, or export another module, and give the file by "
        "exported=student.onnx."
    )


def check(task: OffloadTask, gate: Gate, metric: str, match_scores: bool, labels: bool, draws: int) -> None:
    """Refuses arguments that do not fit, before anything that takes long."""
    expect(draws=draws, ge=1)
    if metric not in task.metrics:
        raise ValueError(f"metric={metric!r} is not among what is measured: {', '.join(task.metrics)}.")
    if match_scores and not isinstance(task, BoxTask):
        raise ValueError(
            "match_scores=true is of boxes, which are ranked by their scores; a class is right or wrong: leave it out."
        )
    if isinstance(gate, Oracle):
        raise ValueError(
            "gate=Oracle knows the test's labels: it bounds what a gate can reach, and cannot operate."
        )
    if isinstance(gate, Learned) and gate.labels and not labels:
        raise ValueError(
            "gate=Learned(labels=true) is taught by labels of the calibration data: give labels=true beside it, too."
        )
    gate.check(task)
    for known in [*usual(task.name, 2), Random(), Oracle(metric)]:
        if gate.name == known.name and type(gate) is not type(known):
            raise ValueError(
                f"gate={type(gate).__name__} has the name {gate.name!r} of {type(known).__name__}, and both have rows: give another."
            )


def check_reuse(task: OffloadTask, reuse: Reuse | None) -> None:
    """Refuses reuse of answers where samples have no time, or no slots to watch."""
    if reuse is not None and not isinstance(task, BoxTask):
        raise ValueError(
            f"reuse is of frames with a camera and a time, and this student answers with {task.name} of pictures: leave it out."
        )
    if reuse is not None and reuse.where == "slots":
        raise ValueError(
            "reuse: where='slots' watches the slots of predict's map, and offload has none: leave it out."
        )


def check_arms(task: OffloadTask, arms: Sequence[Arm], labels: bool) -> None:
    """Refuses arms that cannot be measured here."""
    for name, arm in ((type(arm).__name__, arm) for arm in arms):
        if not isinstance(task, ClassTask):
            raise ValueError(
                f"arms: {name} is of classifiers, and this student answers with {task.name}: leave it out."
            )
        if arm.reads_labels and not labels:
            raise ValueError(
                f"arms: {name} chooses its thresholds by labels of the validation data: give labels=true beside it."
            )


def check_samples(source: AnswerSource, units: int) -> None:
    """Refuses too few calibration samples for a gate that learns, and a test split without a sample.

    Args:
        source: Source of the samples.
        units: How many units of each sample can be sent.
    """
    wanted: dict[Split, tuple[int, str]] = {
        "calibration": (LEAST, "a learned gate needs"),
        "test": (1, "a report needs"),
    }
    for split, (least, why) in wanted.items():
        if (count := len(source.cameras(split)) * units) < least:
            raise ValueError(
                f"there are {count} {split} samples, and {why} {least} or more: change the shares of the data."
            )


def require_classes(teacher: Teacher, arms: Sequence[Arm], classes: SimpleNamespace) -> None:
    """Refuses classifiers of other classes than the student's, as far as their numbers are known.

    Args:
        teacher: The prepared teacher.
        arms: The prepared arms.
        classes: The student's classes, with `num_classes`.
    """
    if teacher.classes is not None:
        raise ValueError(
            f"teacher: classes={teacher.classes} is of detectors, and a classifier answers with all classes in one order: leave it out."
        )
    others = [
        ("the teacher", teacher.loaded),
        *((f"arms: {type(arm).__name__}", arm.module()) for arm in arms),
    ]
    for who, model in others:
        if (count := count_of(model)) not in (None, classes.num_classes):
            raise ValueError(
                f"{who} answers with {count} classes and the student with {classes.num_classes}: give one of the student's classes, in "
                "their order."
            )


def other_thresholds(spec: Mapping[str, Any], teacher: Teacher) -> str | None:
    """Returns a warning if student or teacher drops faint boxes that the other keeps.

    AP counts boxes of every score.

    Args:
        spec: Metadata of the student.
        teacher: The prepared teacher.
    """
    theirs = getattr(teacher.loaded, "thresholds", None)
    ours = float(spec.get("score_threshold", 0.0))
    least = FAINTEST if theirs is None else float(theirs[0])
    if abs(ours - least) < 0.01:
        return None
    return (
        f"The student's boxes end at a score of {ours:g} and the teacher's at {least:g}, and average precision counts boxes of every "
        f"score, so part of the gap is that: give both score_threshold={FAINTEST:g}."
    )
