"""From a source through a student to files: one frame after the other, timed."""

import json
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any

from lkd.edge.latency import cpu_name
from lkd.edge.predict.annotate import Annotated
from lkd.edge.predict.frame import Found, Frame, Source
from lkd.edge.predict.predictor import PARTS, Predictor
from lkd.edge.predict.progress import Progress
from lkd.edge.predict.stop import Stop
from lkd.edge.predict.tables import BoxFiles, ProbabilityFile, Results
from lkd.edge.predict.timing import Clock

NAMED = 20
"""Skipped frames that are named while it runs; the report has more."""


def predict(
    source: Source,
    predictor: Predictor,
    folder: Path,
    pictures: int | None = None,
    steps: Sequence[Callable[[Frame, Found], Found]] = (),
    tracks: bool = False,
) -> dict[str, Any]:
    """Predicts all frames of a source, until its end or a signal.

    Args:
        source: Of the frames.
        predictor: The student.
        folder: Where to write `boxes.csv`, `boxes.jsonl` and `counts.csv`, or `predictions.csv`; `report.json`; `pictures/`.
        pictures: Annotated pictures to write; None for all.
        steps: What else happens to what was found in a frame, in order.
        tracks: Whether one of them gives boxes `ids`.

    Returns:
        The report: frames, skipped ones, frames a second, times by part, files, and the signal that ended it, or None.

    Raises:
        ValueError: If no frame could be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = predictor.classes
    results: Results = (
        BoxFiles(folder, classes, tracks) if predictor.detects else ProbabilityFile(folder, classes)
    )
    annotated = Annotated(folder, classes, pictures)
    clock, said = Clock(PARTS), 0
    progress = Progress(len(source) if isinstance(source, Sized) else None)
    try:
        with Stop() as stop:
            frames = iter(source)
            while not stop.number:
                with clock("decode"):
                    frame = next(frames, None)
                said = _name(source.skipped, said, progress)
                if frame is None:
                    break
                found = predictor(frame, clock)
                for step in steps:
                    found = step(frame, found)
                with clock("write"):
                    results.write(frame, found)
                    annotated.write(frame, found)
                clock.frame_done()
                progress(clock.frames, len(source.skipped))
    finally:
        progress.end()
        results.close()
        source.close()
    if not clock.frames and not stop.number:
        raise ValueError(
            f"no frame could be read: {source.skipped[0] if source.skipped else 'the source is empty.'}"
        )
    report = {
        "frames": clock.frames,
        "skipped": len(source.skipped),
        "frames_per_second": round(clock.rate, 2),
        "latency": clock.rows(),
        "cpu": cpu_name(),
        "score_threshold": predictor.score_threshold if predictor.detects else None,
        "signal": stop.number or None,
        "skipped_because": source.skipped[:1000],
        "files": [str(path) for path in results.paths],
        "pictures": annotated.written,
    }
    (folder / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return report


def _name(skipped: Sequence[str], said: int, progress: Progress) -> int:
    for sentence in skipped[said:NAMED]:
        progress.say(f"skipped: {sentence}")
    if said <= NAMED < len(skipped):
        progress.say(f"skipped: more than {NAMED} frames; report.json has them.")
        return len(skipped)
    return max(said, len(skipped))
