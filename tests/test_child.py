"""A run ends with the one that started it, whatever ended that one. Real processes that import next to nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lkd import child

CHILD = """
import signal, sys, time
from lkd import child
done = child.take_part()
def end(*_):
    open("ended", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
open("began", "w").close()
if "whole" in sys.argv:
    done.touch()
else:
    time.sleep(60)
"""
PARENT = """
import os, sys
from pathlib import Path
from lkd import child
child.Child([sys.executable, "child.py"], os.environ, Path("done")).wait()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "GRACE", 0.1)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    Path("child.py").write_text(textwrap.dedent(CHILD))
    return tmp_path


def until(there):
    deadline = time.monotonic() + 30
    while not Path(there).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(*command):
    return child.Child([sys.executable, *command], os.environ, Path("done"))


def test_a_whole_run_says_so(folder):
    Path("done").touch()  # of an earlier run
    assert start("-c", "pass").wait() == 0
    assert not Path("done").exists()
    assert start("child.py", "whole").wait() == 0
    assert Path("done").exists()


def test_it_is_ended_when_another_thread_says_so(folder):
    stop, run = threading.Event(), start("child.py")
    assert run.code is None
    until("began")
    threading.Timer(0.1, stop.set).start()
    assert run.wait(stop) == 143 == run.code
    assert Path("ended").exists() and not Path("done").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks as Unix does")
def test_it_is_ended_though_a_forked_process_holds_the_pipe(folder):
    run = start("child.py")
    until("began")
    held = subprocess.Popen(["sleep", "60"], close_fds=False, pass_fds=[run._process.stdin.fileno()])
    began = time.monotonic()
    run.end()
    assert run.code == 143 and time.monotonic() - began < 30
    held.kill()
    held.wait()


def test_it_is_ended_once_and_for_all(folder):
    run = start("child.py")
    until("began")
    run.end()
    run.end()
    assert run.code == 143


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills as Unix does")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT"])
def test_a_student_that_dies_takes_its_teachers_run_with_it(folder, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], start_new_session=True, stderr=subprocess.DEVNULL
    )
    until("began")
    parent.send_signal(getattr(signal, number))
    parent.wait(30)
    until("ended")
    assert not Path("done").exists()
