"""`offload`: a small student answers on the device, and a teacher at the edge server where it is worth it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger

from lkd import __version__
from lkd.checks import expect
from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.edge.described import described
from lkd.edge.exported import sha256
from lkd.edge.offload.arms import Arm
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.budget import Budget
from lkd.edge.offload.checks import (
    check,
    check_arms,
    check_module,
    check_reuse,
    check_samples,
    other_thresholds,
    require_classes,
)
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.curves import curve, ends, nothing_to_gain, random_curve, ranks, verdict
from lkd.edge.offload.frames import FrameAnswerSource
from lkd.edge.offload.gates import Gate, Learned, Oracle, Random, usual
from lkd.edge.offload.kept import claim
from lkd.edge.offload.link import Link
from lkd.edge.offload.payload import Payload
from lkd.edge.offload.point import Point
from lkd.edge.offload.report import Report
from lkd.edge.offload.reused import with_reuse
from lkd.edge.offload.samples import PictureAnswerSource
from lkd.edge.offload.scale import matched_scale
from lkd.edge.offload.source import SPLITS, AnswerSource
from lkd.edge.offload.students import Files, known_classes, predictor_of, specs_of, student_of
from lkd.edge.offload.tiles import Tiles
from lkd.edge.offload.trial import Conditions, Trial
from lkd.edge.predict.reuse.asked import Reuse
from lkd.modules import Detector
from lkd.server_model import is_federation
from lkd.teachers import Teacher
from lkd.teachers.classes import understand
from lkd.teachers.fingerprint import Fingerprint


def offload(
    module: LightningModule | None,
    data: LightningDataModule,
    ckpt_path: str | None,
    teacher: Teacher,
    budget: Budget,
    exported: Files | None = None,
    gate: Gate | None = None,
    payload: Payload | None = None,
    tiles: Tiles | None = None,
    link: Link | None = None,
    fps: float | None = None,
    workers: int = 1,
    server_speed: float = 1.0,
    device_ms: float | None = None,
    threads: int = 1,
    teacher_size: int | None = None,
    match_scores: bool = False,
    labels: bool = False,
    arms: Sequence[Arm] = (),
    reuse: Reuse | None = None,
    metric: str | None = None,
    draws: int = 20,
    seed: int = 0,
    folder: str = "offload",
    anew: bool = False,
    loggers: Sequence[Logger] = (),
    config: Mapping[str, Any] | None = None,
) -> Point:
    """Measures a cascade on the test data of a student, and finds the threshold that a budget allows.

    Answers of student and teacher are kept in the folder and not computed again. Gates learn from validation
    data, or else from training data without labels, and the threshold is chosen there. See docs/offload.md.

    Args:
        module: A `Detector` or a classifier of pictures; None with `exported`.
        data: A `DetectionDataModule`, or one of samples (x, y) with pictures x.
        ckpt_path: Checkpoint of the student; None with `exported`.
        teacher: The teacher at the server.
        budget: What may be spent, or is to be reached.
        exported: The student as a file, or a file for each camera.
        gate: Gate that decides at the operating point. Default: `Learned()`.
        payload: How a picture is sent. Default: WebP of quality 70.
        tiles: Parts of frames, each of which is sent or not. Default: whole frames.
        link: Link between each camera and the server. Default: 10 Mb/s, and 50 ms there and back.
        fps: Samples per second of each camera. Default: no sample waits for another.
        workers: Requests that the server works on at once.
        server_speed: How many times faster the server is than this machine, on which the teacher is timed.
        device_ms: Time of the student on the device. Default: its median on this machine.
        threads: Number of threads of PyTorch and of a file's runtime, while answers are computed and timed.
        teacher_size: Longer side of a frame in the teacher's input. Default: the data's `teacher_size`, or
            else `image_size`.
        match_scores: Whether the teacher's scores are brought to the student's scale, so that boxes of both
            can be ranked together.
        labels: Whether labels of the calibration data may be read.
        arms: Other ways to share the work, for classifiers, whose rows are added to the report: `EarlyExit`,
            `SentExit`, `Bottleneck`. See docs/split.md.
        reuse: When a frame that looks like an earlier one takes that one's final answer before the gate is
            asked, whose row is added to the report. Default: never. See docs/offload.md.
        metric: Metric that decides. Default: `map50`, for classifiers `acc`.
        draws: Number of draws of the random gate, whose mean is shown.
        seed: Seed of draws, jitter and loss.
        folder: Folder to write into.
        anew: Whether to delete answers that another configuration left in the folder, and answers of this
            one.
        loggers: Loggers; those of W&B get the table and the picture.
        config: Configuration of the run; the entries that the answers depend on are compared.

    Returns:
        The operating point on the test data.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: For arguments that do not fit, or a budget that no threshold meets; the table is written
            all the same.

    Example:
        >>> offload(Classifier("resnet18"), Digits(), "last.ckpt", Teacher("teacher.ckpt"), Budget(rate=0.2))  # doctest: +SKIP
        Point(arm='learned', rate=0.19, ...)
    """
    conditions = Conditions(link or Link(10.0, rtt_ms=50.0), fps, workers, server_speed, device_ms, seed)
    gate, payload = gate or Learned(), payload or Payload()
    if not isinstance(teacher, Teacher):
        raise ValueError(
            f"teacher={teacher!r} is no Teacher, and a cascade has one at its server: give one, as teacher: {{model: runs/teacher/last.ckpt}}."
        )
    budget.check(fps, labels)
    task = _task(module, data, tiles)
    first = metric or task.metrics[0]
    check(task, gate, first, match_scores, labels, draws)
    gate.serve(first)
    check_arms(task, arms, labels)
    check_reuse(task, reuse)
    if module is not None and exported is None:
        check_module(module, data)
    if Path(folder).exists() and not Path(folder).is_dir():
        raise ValueError(
            f"folder={folder!r} is a file: give a folder, where answers and the report are kept."
        )
    expect(teacher_size=teacher_size, ge=1, none="the data's own", why="it is in pixels")
    student, digests = student_of(module, data, ckpt_path, exported, threads), _digests(ckpt_path, exported)
    with _threads(threads):
        source: AnswerSource
        if isinstance(task, BoxTask):
            detection_data = cast(DetectionDataModule, data)
            views = detection_data.eval_views
            size = teacher_size or views.teacher_size or views.image_size
            predictor = predictor_of(student, ckpt_path or str(exported))
            source = FrameAnswerSource(predictor, teacher, detection_data, payload, task, size, labels)
            asked = (camera for split in SPLITS for camera in source.cameras(split))
            specs = specs_of(student, asked, "boxes", type(data).__name__)
        else:
            if isinstance(exported, Mapping):
                raise ValueError(
                    f"exported={dict(exported)} is a file for each camera, which detectors have: give one file of a classifier."
                )
            specs = specs_of(student, [""], "logits", type(data).__name__)
            source = PictureAnswerSource(student(""), teacher, data, payload, labels)
        check_samples(source, len(tiles) if tiles else 1)
        if reuse is not None and isinstance(source, FrameAnswerSource):
            for split in SPLITS:
                source.seconds(split, reuse.step_s)  # refuses frames without a time
        classes = known_classes(specs[0], None if exported else module, data)
        teacher.prepare()  # may train it, which takes long
        for arm in arms:
            arm.prepare()
        if isinstance(task, BoxTask):
            understand(teacher, classes)
        else:
            require_classes(teacher, arms, classes)
        what = {
            "lkd": __version__,
            "student": digests,
            "answers as": described(specs),
            "model": (config or {}).get("model") or type(module).__qualname__,
            "samples": {split: source.digest(split) for split in SPLITS},
            "teacher": {"weights and code": Fingerprint(teacher.loaded).now(), **_settings(teacher)},
            "payload": described(payload),
            "tiles": described(tiles),
            "teacher_size": getattr(source, "teacher_size", None),
        }
        place = claim(Path(folder), what, anew)
        cameras = source.cameras("test")
        others = [
            p for arm in arms for p in arm.points(data, conditions, cameras)
        ]  # so that their mistakes show early
        mmacs = source.mmacs() if arms and isinstance(source, PictureAnswerSource) else nan
        learned, measured = (source.answers(split, place) for split in SPLITS)
    if match_scores:
        boxes = cast(BoxTask, task)
        theirs = [found for n in range(len(learned)) for found in boxes.standing(learned, n)]
        boxes.scale = matched_scale(theirs, learned.local)
    calibration, test = (Trial(task, answers, conditions, mmacs) for answers in (learned, measured))
    gates: dict[str, Gate] = {
        g.name: g for g in [*usual(task.name, len(set(learned.cameras)) * learned.units), gate]
    }
    for each in gates.values():
        each.fit(task, learned)
    curves = {
        "random": random_curve(test, draws, seed),
        **{k: curve(each, test) for k, each in gates.items() if not isinstance(each, Random)},
    }
    curves["oracle"] = curve(Oracle(first), test)
    metrics = [first, *(name for name in task.metrics if name != first)]
    teachers = test.metrics(np.ones(measured.nbytes.shape, bool))
    notes = [f"Calibrated on {source.calibrated_on}."]
    if unlike := other_thresholds(specs[0], teacher):
        notes.append(unlike)
    report = Report(metrics, *ends(test), teachers, curves, others=others, notes=notes)
    said = nothing_to_gain(report.device, teachers, first), verdict(curves, first)
    report.notes += [sentence for sentence in said if sentence]
    try:
        chosen = budget.choose(ranks(gate, calibration), calibration, first)
        sent = [ranks(gate, trial) >= chosen.threshold for trial in (calibration, test)]
        report.operating = test.point(gate.name, sent[1])
        report.notes.append(budget.said(chosen.calibration, report.operating, first, fps))
        report.notes.append(report.sentence())
        if reuse is not None:
            frames = cast(FrameAnswerSource, source)
            point, words = with_reuse(reuse, frames, calibration, test, sent, report.operating, first)
            report.others += [point] if point else []
            report.notes += words
    finally:  # the table is useful even if nothing meets the budget
        report.write(Path(folder), loggers)
        print("\n".join(report.notes))
    return report.operating


def _task(
    module: LightningModule | None, data: LightningDataModule, tiles: Tiles | None
) -> BoxTask | ClassTask:
    if is_federation(module):
        raise ValueError(
            f"{type(module).__name__} is a federation: offload takes one student, so save a client's model, and give its configuration."
        )
    if isinstance(data, DetectionDataModule):
        return BoxTask(tiles, module.thresholds[2]) if isinstance(module, Detector) else BoxTask(tiles)
    if tiles is not None:
        raise ValueError(
            f"tiles={tiles} are parts of frames with boxes, and {type(data).__name__} has none: leave them out."
        )
    return ClassTask()


def _digests(ckpt_path: str | None, exported: Files | None) -> dict[str, str]:
    paths = exported if isinstance(exported, Mapping) else {"": str(exported or ckpt_path)}
    return {name: sha256(Path(path)) for name, path in paths.items()}


def _settings(teacher: Teacher) -> dict[str, Any]:
    """Returns what changes a teacher's answers besides its model."""
    names = ("class_map", "classes", "precision")
    return {
        "normalization": described(teacher.normalization),
        **{k: described(getattr(teacher, k)) for k in names},
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sets PyTorch's number of threads inside the block."""
    expect(threads=count, ge=1)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
