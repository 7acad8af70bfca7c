"""The verb `predict SOURCE`: pictures, folders and streams, by an exported file or a checkpoint."""

import json
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from lkd.edge.exported import Exported
from lkd.edge.predict.annotate import Annotated, AnnotatedClip
from lkd.edge.predict.folder import fresh
from lkd.edge.predict.frame import FrameSource
from lkd.edge.predict.loop import predict
from lkd.edge.predict.parking.car_park import CarPark
from lkd.edge.predict.parking.occupancy import Occupancy
from lkd.edge.predict.parking.slots import Slots
from lkd.edge.predict.parking.truth import Truth
from lkd.edge.predict.predictor import Predictor, RunnableStudent
from lkd.edge.predict.reuse.build import reusing
from lkd.edge.predict.reuse.moments import FrameMoments
from lkd.edge.predict.reuse.reuse_file import ReuseFile
from lkd.edge.predict.sources import PictureSource, is_stream, open_source
from lkd.edge.predict.summary import plainly, tell
from lkd.edge.predict.tables import BoxFiles, ProbabilityFile, Results, opened
from lkd.edge.predict.tracks import Tracker
from lkd.edge.predict.words import OF_BOXES, OF_REUSE, OF_SLOTS, check_options, is_file, parser, split


def run(args: Sequence[str]) -> dict[str, Any]:
    """Predicts, and prints what was done.

    Args:
        args: The words after `predict`.

    Returns:
        The report of `lkd.edge.predict.loop.predict`. With slots, `occupancy` has the figures of
        `OccupancyScore`.

    Raises:
        SystemExit: With 128 and the number of the signal that ended it.
        ValueError: For options that do not fit, before anything that takes long.
    """
    words, options = split(args)
    given, rest = parser().parse_known_args(options)
    if not words:
        raise ValueError(
            "predict needs a SOURCE beside --model: a picture, a folder, a glob, a clip or the address of a stream."
        )
    if given.folder is not None:
        fresh(given.folder, given.folder)
    _by_file(given, rest)
    with closing(open_source(words, given.every)) as source:  # first, since a wrong one shows soon
        student, who, default = _student(given, rest)
        predictor = Predictor(student, who, given.score_threshold)
        _check(given, predictor, who)
        most = given.pictures if "pictures" in given else 20 if is_stream(words[0]) else None
        report = _predict(given, source, predictor, fresh(given.folder, default), most)
    if report["signal"]:
        raise SystemExit(128 + report["signal"])
    return report


def _predict(
    given: Any, source: FrameSource, predictor: Predictor, folder: Path, most: int | None
) -> dict[str, Any]:
    """Puts together what is written, and predicts."""
    # first, since it orders the pictures that --every chooses from
    moments = None if given.reuse is None else FrameMoments(source, given.reuse.step_s)
    if given.clip and isinstance(source, PictureSource):
        _check_clip(source)
    classes, rate = predictor.classes, getattr(source, "rate", None)  # only clips have a rate
    tracker = Tracker(given.track, rate or 25.0) if given.track else None
    with warnings.catch_warnings():
        warnings.showwarning = plainly
        occupancy, truth = _slots(given, source, classes) if given.slots else (None, None)
    reused = (
        None if moments is None else reusing(given.reuse, given.audit, predictor, moments, occupancy, truth)
    )
    folder.mkdir(parents=True, exist_ok=True)
    boxes = BoxFiles(folder, classes, tracker is not None) if predictor.detects else None
    results: list[Results] = [boxes or ProbabilityFile(folder, classes)]
    park = CarPark(folder, occupancy, truth, given.slot_columns) if occupancy else None
    overlay = park.overlay if park else None
    if park:
        results.append(park)
    results.append(Annotated(folder, classes, most, overlay))
    if reused:
        results.append(ReuseFile(folder, reused))
    if given.clip:
        results.append(AnnotatedClip(folder, classes, rate, overlay))
    with warnings.catch_warnings():
        warnings.showwarning = plainly
        report = predict(source, reused or predictor, results, tracker.update if tracker else None)
        if reused:
            report["reuse"] = reused.figures()
        if park:
            report["occupancy"] = park.figures()
            if truth and report["frames"] and not report["occupancy"]["compared"]:
                warnings.warn(
                    f"nothing was compared: truth={given.truth} says nothing of these frames by {truth.by}.",
                    stacklevel=2,
                )
    text = json.dumps(report, indent=1, ensure_ascii=False)
    with opened(folder / "report.json") as file:
        file.write(text + "\n")
    tell(report, folder)
    return report


def _check(given: Any, predictor: Predictor, who: str) -> None:
    """Refuses options that mean nothing beside the others."""
    for name in OF_BOXES:
        if getattr(given, name) and not predictor.detects:
            raise ValueError(
                f"{name}={getattr(given, name)} is of boxes, and {who} is a classifier: leave it out."
            )
    for name in OF_SLOTS:
        if getattr(given, name) not in (None, False) and given.slots is None:
            raise ValueError(
                f"{name}={getattr(given, name)} is of slots: give their map, too, as --slots map.json."
            )
    if given.track and given.reuse is not None and given.reuse.where == "slots":
        raise ValueError(
            f"track={given.track} follows what moves, and with --reuse '{{where: slots}}' boxes beside the slots are as old as the "
            "answer: leave one of the two out, or watch the whole frame."
        )
    for name in OF_REUSE:
        if getattr(given, name) is not None and given.reuse is None:
            raise ValueError(
                f"{name}={getattr(given, name)} is of reused answers: give --reuse, too, as --reuse '{{distance: 16, ttl_s: 60}}'."
            )


def _check_clip(source: PictureSource) -> None:
    """Refuses to make a clip of pictures of several sizes."""
    for path, size in source.sizes():
        if size != source.size:
            raise ValueError(
                f"clip=True: {path} is a picture of {size[0]}x{size[1]}, and the first one of {source.size[0]}x{source.size[1]}, "
                "and a clip has one size: leave --clip out, or predict them apart."
            )


def _slots(given: Any, source: FrameSource, classes: Sequence[str]) -> tuple[Occupancy, Truth | None]:
    """Returns what follows the slots, and their truth if it is known."""
    slots = Slots.read(given.slots, source.size, given.slot_camera)
    numbers = {"up": given.slot_up, "down": given.slot_down, "dwell": given.slot_dwell}
    known = {name: value for name, value in numbers.items() if value is not None}
    truth = None if given.truth is None else Truth.read(given.truth, slots)
    if isinstance(source, PictureSource):
        for path, size in source.sizes():
            slots.check(str(path), size)
        if truth is not None:
            truth.check_pictures(source.paths)
    return Occupancy(slots, classes, given.slot_classes, **known), truth


def _by_file(given: Any, rest: Sequence[str]) -> bool:
    """Returns whether an exported file predicts, and not a checkpoint.

    Raises:
        ValueError: If both or neither are named, or for options that belong to the other.
    """
    names = {word.partition("=")[0] for word in rest}
    by_file = given.model is not None and (is_file(given.model) or not names & {"--config", "-c"})
    if by_file == ("--ckpt_path" in names):
        have = f"both --model={given.model} and --ckpt_path" if by_file else "neither --model nor --ckpt_path"
        raise ValueError(
            f"{have}: predict SOURCE takes an exported file (--model student.onnx) or a checkpoint (--config C.yaml --ckpt_path X.ckpt)."
        )
    if not by_file:
        if not names & {"--config", "-c"}:
            raise ValueError("--ckpt_path needs the configuration that it was trained by: --config C.yaml.")
        return False
    for name in ("camera", "client", "classes"):
        if (value := getattr(given, name)) is not None:
            raise ValueError(
                f"{name}={value} is of a checkpoint, and --model={given.model} is an exported file: leave it out."
            )
    check_options(rest, parser())
    return True


def _student(given: Any, rest: Sequence[str]) -> tuple[RunnableStudent, str, Path]:
    """Returns the student, its name, and the folder of its results."""
    if not _by_file(given, rest):
        from lkd.edge.predict.trained import trained  # imports torch and Lightning

        return trained(rest if given.model is None else [f"--model={given.model}", *rest], given)
    path = Path(given.model)
    return Exported(path, given.threads), path.name, _run_of(path) / "predict"


def _run_of(path: Path) -> Path:
    """Returns the run folder of a file: above `export`, `export_openvino` or `compress/3_int8`, or its name.

    Example:
        >>> _run_of(Path("runs/a/export/student.onnx")).as_posix(), _run_of(Path("runs/a/compress/0_parent/student.onnx")).as_posix()
        ('runs/a', 'runs/a')
        >>> _run_of(Path("elsewhere/student.onnx")).as_posix()
        'runs/student'
    """
    folder = path.parent
    if folder.name in ("export", "export_openvino", "compress"):
        return folder.parent
    return folder.parent.parent if folder.parent.name == "compress" else Path("runs", path.stem)
