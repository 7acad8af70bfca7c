"""The loop from a source through a student to files: one frame after the other, timed."""

from collections.abc import Callable, Sequence, Sized
from typing import Any

from lkd.edge.latency import cpu_name
from lkd.edge.predict.frame import Found, FrameSource
from lkd.edge.predict.predictor import Predictor
from lkd.edge.predict.progress import Progress
from lkd.edge.predict.reuse.reused import Reused
from lkd.edge.predict.sentences import KEPT, Sentences
from lkd.edge.predict.stop import Stop
from lkd.edge.predict.tables import Results
from lkd.edge.predict.timing import FrameTimes

NAMED = 20
"""Most skipped frames that are named during a run; the report has more."""


def predict(
    source: FrameSource,
    predictor: Predictor | Reused,
    results: Sequence[Results],
    track: Callable[[Found, float | None], Found] | None = None,
) -> dict[str, Any]:
    """Predicts all frames of a source, until its end or a signal.

    Args:
        source: Source of the frames.
        predictor: The student, or one whose answers are reused.
        results: Writers of the findings, called in this order and closed at the end.
        track: Function that gives boxes ids, from the findings and the frame's time.

    Returns:
        The report: frames, skipped frames, frames per second, times by part, files, and the signal that ended
        it, or None.

    Raises:
        ValueError: If no frame could be read.
    """
    clock = FrameTimes(predictor.parts)
    progress = Progress(len(source) if isinstance(source, Sized) else None)
    try:
        with Stop() as stop:
            _run(source, predictor, results, track, clock, progress, stop)
    finally:
        progress.end()
        for result in results:
            result.close()
    if not clock.frames and not stop.number:
        why = source.skipped[0] if source.skipped else "the source is empty."
        raise ValueError(f"no frame could be read: {why}")
    return {
        "frames": clock.frames,
        "skipped": source.skipped.total,
        "dropped": source.dropped,
        "frames_per_second": round(clock.rate, 2),
        "latency": clock.rows(),
        "cpu": cpu_name(),
        "score_threshold": predictor.score_threshold if predictor.detects else None,
        "signal": stop.number or None,
        "skipped_because": list(source.skipped),
        "files": [str(path) for result in results for path in result.paths],
    }


def _run(
    source: FrameSource,
    predictor: Predictor | Reused,
    results: Sequence[Results],
    track: Callable[[Found, float | None], Found] | None,
    clock: FrameTimes,
    progress: Progress,
    stop: Stop,
) -> None:
    frames, said = iter(source), 0
    while True:
        with clock("decode"):
            frame = stop.take(frames)
        said = _name(source.skipped, said, progress)
        if frame is None:
            return
        found = predictor(frame, clock)
        with clock("write"):
            if track is not None:
                found = track(found, frame.time)
            for result in results:
                result.write(frame, found)
        clock.frame_done()
        progress(clock.frames, source.skipped.total)


def _name(skipped: Sentences, said: int, progress: Progress) -> int:
    """Reports frames that were skipped since the last one; returns how many are reported so far."""
    for sentence in skipped[said:NAMED]:
        progress.say(f"skipped: {sentence}")
    if said <= NAMED < skipped.total:
        progress.say(f"skipped: more than {NAMED} frames; report.json has the first {KEPT}.")
    return skipped.total
