"""The verb `predict SOURCE`: pictures, folders and streams, by an exported file (without torch) or a checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lkd.edge.exported import Exported
from lkd.edge.predict.annotate import Annotated, AnnotatedClip
from lkd.edge.predict.folder import fresh
from lkd.edge.predict.loop import predict
from lkd.edge.predict.predictor import Predictor, Student
from lkd.edge.predict.sources import is_stream, open_source
from lkd.edge.predict.tables import BoxFiles, ProbabilityFile, Results
from lkd.edge.predict.tracks import Tracker
from lkd.edge.predict.words import check_options, is_file, parser, split


def run(args: Sequence[str]) -> dict[str, Any]:
    """Predicts, and prints what was done.

    Args:
        args: The words after `predict`.

    Returns:
        The report; see `lkd.edge.predict.loop.predict`.

    Raises:
        SystemExit: With 128 and the number of the signal that ended it.
        ValueError: For options that do not fit, before anything long.
    """
    words, options = split(args)
    known = parser()
    given, rest = known.parse_known_args(options, namespace=None)
    chosen = "--pictures" in " ".join(options)
    if not words:
        raise ValueError(
            "predict needs a SOURCE beside --model: a picture, a folder, a glob, a clip or the address of a stream."
        )
    student, who, default = _student(given, rest)
    predictor = Predictor(student, who, given.score_threshold)
    if given.track and not predictor.detects:
        raise ValueError(f"track={given.track} is of boxes, and {who} is a classifier: leave it out.")
    folder = fresh(given.folder, default)
    source = open_source(words, given.every)
    pictures = given.pictures if chosen else 20 if is_stream(words[0]) else None
    rate: float | None = getattr(source, "rate", None)
    tracker = Tracker(given.track, rate or 25.0) if given.track else None
    folder.mkdir(parents=True, exist_ok=True)
    classes = predictor.classes
    results: list[Results] = [
        BoxFiles(folder, classes, tracker is not None)
        if predictor.detects
        else ProbabilityFile(folder, classes)
    ]
    results.append(Annotated(folder, classes, pictures))
    if given.clip:
        results.append(AnnotatedClip(folder, classes, rate))
    report = predict(source, predictor, results, folder, tracker.update if tracker else None)
    _tell(report, folder, predictor)
    if report["signal"]:
        raise SystemExit(128 + report["signal"])
    return report


def _student(given: Any, rest: Sequence[str]) -> tuple[Student, str, Path]:
    """The student, what to call it, and the folder of its results."""
    names = {word.partition("=")[0] for word in rest}
    by_file = given.model is not None and (is_file(given.model) or "--config" not in names)
    by_checkpoint = "--ckpt_path" in names
    if by_file == by_checkpoint:
        have = f"both --model={given.model} and --ckpt_path" if by_file else "neither --model nor --ckpt_path"
        raise ValueError(
            f"{have}: predict SOURCE takes an exported file (--model student.onnx) or a checkpoint (--config C.yaml --ckpt_path X.ckpt)."
        )
    if not by_file:
        if not names & {"--config", "-c"}:
            raise ValueError("--ckpt_path needs the configuration that it was trained by: --config C.yaml.")
        from lkd.edge.predict.trained import trained  # torch and Lightning

        if given.model is not None:
            rest = [f"--model={given.model}", *rest]
        return trained(rest, given)
    for name in ("camera", "client", "classes"):
        if (value := getattr(given, name)) is not None:
            raise ValueError(
                f"{name}={value} is of a checkpoint, and --model={given.model} is an exported file: leave it out."
            )
    check_options(rest, parser())
    path = Path(given.model)
    place = path.parent.parent if path.parent.name == "export" else Path("runs", path.stem)
    return Exported(path, given.threads), path.name, place / "predict"


def _tell(report: dict[str, Any], folder: Path, predictor: Predictor) -> None:
    ended = " until a signal ended it" if report["signal"] else ""
    dropped = f", {report['dropped']} dropped" if report["dropped"] else ""
    print(
        f"{report['frames']} frames{ended}, {report['skipped']} skipped{dropped}, {report['frames_per_second']:.1f} a second"
    )
    if report["latency"]:
        print(f"{'ms a frame':<12}{'p50':>10}{'p95':>10}{'CPU p50':>10}")
    for row in report["latency"]:
        if predictor.detects or row["part"] != "NMS":
            print(f"{row['part']:<12}{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}{row['cpu_ms']:>10.2f}")
    files = ", ".join(Path(path).name for path in report["files"])
    above = f" of boxes that score above {predictor.score_threshold:g}" if predictor.detects else ""
    print(f"{folder}: {files}, report.json{above}")
