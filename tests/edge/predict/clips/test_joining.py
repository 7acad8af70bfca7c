import pytest

from lkd.edge.predict.clips import joining
from lkd.edge.predict.clips.decode import UnreadableError
from lkd.edge.predict.clips.joining import Joining


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where the test says so; waits are noted. `up` is whether the camera answers."""

    class Clock:
        now, waits, up = 0.0, [], True

        def wait(self, seconds):
            self.waits.append(seconds)
            return False

    clock = Clock()
    clock.waits = []

    def connect(path, timeout):
        if not clock.up:
            raise UnreadableError("no answer")
        return "connection"

    monkeypatch.setattr(joining.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(joining, "Connection", connect)
    return clock


def join(clock, tries=3):
    made = Joining("rtsp://camera/1", tries, 10.0, 1.0)
    made.stopped.wait = clock.wait
    return made


def test_waits_grow_and_end(clock):
    clock.up = False
    made = join(clock, tries=8)
    assert made.again("it broke off") is None and clock.waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert made.notes == ["it broke off; it is given up after 8 tries in a row to join it again."]


def test_a_camera_that_stalls_again_and_again_is_given_up(clock):
    """Each of its connections lasts long, as nothing comes for `timeout` seconds; frames came for a moment only."""
    made = join(clock)
    for _ in range(3):
        clock.now += 1
        made.gave()
        clock.now += 10  # the read that took too long
        assert made.again("it took too long") == "connection"
    assert made.again("it took too long") is None and made.joined == 3


def test_a_connection_that_was_good_starts_the_count_anew(clock):
    made = join(clock)
    for _ in range(9):
        clock.now += 11
        made.gave()
        assert made.again("it broke off") == "connection"
    assert made.joined == 9 and clock.waits == [1] * 9
