"""Interrupts reach the tests, too, where a shell runs them in the background and has them ignored."""

import signal

import pytest


@pytest.fixture(autouse=True)
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
