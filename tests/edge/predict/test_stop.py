import signal

import pytest

from lkd.edge.predict.stop import Stop


def test_a_frame_under_way_comes_to_its_end():
    with Stop() as stop:
        assert stop.take(iter("ab")) == "a"
        signal.raise_signal(signal.SIGTERM)
        assert stop.take(iter("ab")) is None and stop.number == signal.SIGTERM


def test_the_wait_for_a_frame_ends_at_once():
    def silent():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")
        yield

    with Stop() as stop:
        assert stop.take(silent()) is None and stop.number == signal.SIGINT


def test_a_second_signal_ends_it_at_once_and_afterwards_they_are_whose_they_were():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended, Stop():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130 and signal.getsignal(signal.SIGINT) is before


def test_one_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)
