"""The Trainer's half of a deployment, without NVFlare: who may join, what ends, and why it has not begun."""

import contextlib
import os
import queue
import subprocess
import sys
import time
import types
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from lkd.flare import deployment
from lkd.flare import door as module
from lkd.flare.deployment import Deployment
from lkd.flare.reasons import last_exception, reasons
from lkd.frames import frame

psutil = pytest.importorskip("psutil")


class Alone(Deployment):
    """A deployment without a server."""

    status = ""

    def _rehearse(self, locals_):
        return self._folder

    def _connect(self):
        pass

    def submit(self, sites=()):
        pass

    def ended(self):
        return self.status


@pytest.fixture
def alone():
    made = Alone(None, 1, [], 5.0)
    yield made
    made.close()


def call(there, *data):
    pipe = Client(there._door.address, "AF_UNIX")
    for each in data:
        pipe.send_bytes(each)
    return pipe


@pytest.mark.parametrize(
    "data", [(), (b"no frame",), (frame({}),), (frame({"name": "site-0"}),), (b"x" * (1 << 17),)]
)
def test_one_bad_connection_does_not_keep_others_out(alone, data):
    with contextlib.suppress(
        BrokenPipeError, ConnectionResetError
    ):  # it may be hung up on while it still sends
        call(alone, *data).close()
    with call(alone, frame({"site": "site-7"})):
        assert list(alone.gather()) == ["site-7"]


def test_a_connection_that_says_nothing_is_closed(alone, monkeypatch):
    monkeypatch.setattr(module, "HELLO", 0.1)
    with call(alone) as silent, call(alone, frame({"site": "site-7"})):
        assert list(alone.gather()) == ["site-7"]
        assert silent.poll(5)
        with pytest.raises(EOFError):
            silent.recv_bytes()


def test_close_ends_the_listening(alone):
    alone.close()
    alone.close()
    assert not alone._folder.exists()
    with pytest.raises(queue.Empty):
        alone.joined.get(timeout=0.1)


def told(name, status="started", job="?"):
    return {"client_name": name, "status": status, "job_id": job}


def test_who_was_started_again(alone):
    """One that was frozen still has its part in the job, and one that is dead says nothing."""
    asked, rows = (
        [],
        [told("b", "no_jobs"), told("c", job="J"), told("d", "no_reply"), told("e", job="other")],
    )
    alone._job, alone.connected = (
        "J",
        lambda: {"a": 9.0, "b": 11.0, "c": 12.0, "d": 13.0, "e": 14.0, "f": 15.0},
    )
    nothing = {"set_timeout": lambda seconds: None, "unset_timeout": lambda: None, "close": lambda: None}
    alone._session = types.SimpleNamespace(
        get_client_job_status=lambda names: asked.append(names) or rows, **nothing
    )
    assert alone.returned(dict.fromkeys("abcde", 10.0)) == ["b", "e"]
    assert asked == [["b", "c", "d", "e"]]
    assert alone.returned({"a": 10.0}) == [] and len(asked) == 1
    logged_in = []
    alone._login = lambda: logged_in.append(1)
    alone._session = types.SimpleNamespace(close=lambda: None)  # an old one, which does nothing more
    assert alone.returned({"b": 10.0}) == [] and logged_in


def test_a_new_job_has_a_door_of_its_own(alone, monkeypatch):
    former, alone.status = alone._door, "FINISHED:ABORTED"
    late = call(alone, frame({"site": "a"}))
    submitted, kept = [], []

    def submit(sites):
        submitted.append(sites)
        kept.append(call(alone, frame({"site": "b"})))

    alone.submit = submit
    monkeypatch.setattr(deployment, "OTHERS", 0.1)
    assert list(alone.renew(["a", "b"])) == ["b"] and submitted == [["a", "b"]]
    with pytest.raises((EOFError, ConnectionResetError)):
        late.recv_bytes()
    with pytest.raises(OSError):  # a relay of the former job finds nobody
        Client(former.address, "AF_UNIX")


def test_who_comes_while_a_door_closes_does_not_wait_for_ever(tmp_path):
    for number in range(30):
        door = module.Door(tmp_path / f"socket-{number}")
        late = Client(door.address, "AF_UNIX")
        late.send_bytes(frame({"site": "a"}))
        door.close()
        assert late.poll(10)
        with pytest.raises((EOFError, ConnectionResetError)):
            late.recv_bytes()


def test_a_new_job_in_which_nobody_comes(alone):
    alone.status, alone.timeout, alone.submit = "FINISHED:ABORTED", 0.1, lambda sites: None
    with pytest.raises(RuntimeError, match=r"no site came into the new job within 0\.1 seconds"):
        alone.renew(["a"])


PRINTED = """\
2026-11-30 13:41:13,153 - JsonScanner - ERROR - Traceback (most recent call last):
  File "/nvflare/private/fed/app/client/runner_process.py", line 9, in main
    raise TypeError(f"Can't load class {class_path}: {ex}")
ModuleNotFoundError: No module named 'lkd'
nvflare.fuel.common.excepts.ConfigError: Error processing 'config_fed_client.json'.
2026-11-30 13:41:14,151 - MPM - INFO - Error: is part of a sentence
"""


def test_why_the_job_has_ended(alone, tmp_path):
    quiet, told = tmp_path / "quiet.txt", tmp_path / "told.txt"
    quiet.write_text("2026 - all is well\n")
    told.write_text(PRINTED)
    alone.status = "FINISHED:ABNORMAL"
    alone._outputs = {"site-0": quiet, "site-1": told, "localhost": tmp_path / "none.txt"}
    with pytest.raises(RuntimeError, match=r"0 of 1 sites work: the job has ended \(FINISHED:ABNORMAL\); "
                       r"site-1: ModuleNotFoundError: No module named 'lkd'\."):  # fmt: skip
        alone.gather()


def test_where_to_look_for_the_reason(tmp_path):
    (tmp_path / "quiet.txt").write_text("2026 - all is well\n")
    assert reasons({"site-0": tmp_path / "quiet.txt"}) == f"nothing of it is in {tmp_path / 'quiet.txt'}"
    assert "in the kit of each site" in reasons({})
    assert last_exception(tmp_path / "none") == ""
    (tmp_path / "own.txt").write_text("nvflare.fuel.common.excepts.ConfigError: Error processing it.\n")
    assert (
        last_exception(tmp_path / "own.txt") == "nvflare.fuel.common.excepts.ConfigError: Error processing it"
    )


SCRIPT = """
import sys
from lkd.flare import deployment
from tests.test_deployment import Alone

deployment.close = lambda kit: None
deployment.command = lambda kit: [sys.executable, "-c", "import time; time.sleep(600)"]
made = Alone(None, 1, [], 5.0)
print(made._folder, made.start(made._folder, made._folder).pid, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "raise KeyboardInterrupt", "sys.exit(3)"])
def test_nothing_outlives_a_process_that_has_not_closed(end):
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(end=end)],
        env=environment, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    folder, pid = told.split()
    until = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid)) and not Path(folder).exists()
