"""What all tests of comparisons have: interrupts, and reports without files of pictures."""

import signal
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def interruptible():
    """Interrupts reach the tests, too, where a shell runs them in the background and has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def svg_alone(monkeypatch):
    """Pictures are drawn for the page; PNG and PDF, most of a report's time, are empty. `usual_report` has them."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **options: Path(path).touch())
