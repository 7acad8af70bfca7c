import io
import time

import pytest

from lkd.edge.predict import progress as module
from lkd.edge.predict.progress import Progress
from lkd.edge.predict.timing import FrameTimes


def test_parts_add_up(monkeypatch):
    now = iter([0.0, 0, 1, 5, 5, 8, 20, 20, 22, 30])
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    clock = FrameTimes(["decode", "write"])
    assert clock.rows() == []
    for _ in range(2):
        with clock("decode"):
            pass
        with clock("write"):
            pass
        clock.frame_done()
    rows = {row["part"]: row for row in clock.rows()}
    assert [rows[part]["p50_ms"] for part in ("decode", "write", "all")] == pytest.approx([6500, 1000, 7500])
    assert rows["decode"]["cpu_ms"] == 0 and rows["decode"]["p95_ms"] == pytest.approx(11450)
    assert clock.rate == pytest.approx(2 / 30)


def test_without_a_terminal_it_says_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "SELDOM", 0.0)
    stream = io.StringIO()
    Progress(10, stream)(3, 1)
    assert stream.getvalue().startswith("3 of 10 frames, 1 skipped, ") and stream.getvalue().endswith(
        "a second\n"
    )


def test_in_a_terminal_the_line_is_written_over(monkeypatch):
    monkeypatch.setattr(module, "OFTEN", 0.0)
    stream = io.StringIO()
    stream.isatty = lambda: True
    progress = Progress(None, stream)
    progress(3, 0)
    progress.say("skipped: it")
    assert stream.getvalue().startswith("\r3 frames, ") and "\r" in stream.getvalue()[-80:]
    assert stream.getvalue().endswith("skipped: it\n")
