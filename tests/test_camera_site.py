"""Both halves of a job of NVFlare, without NVFlare: what they do with a site that is stuck."""

import importlib
import os
import signal
import subprocess
import sys
import time
import types
from multiprocessing import Pipe

import pytest

from lkd.flare.local import LOCAL
from lkd.frames import frame, unframe

STANDS_IN = """
import os, sys, time
from multiprocessing.connection import Connection
from lkd.frames import frame, unframe

pipe = Connection(int(sys.argv[1]))
while True:
    command, body = unframe(pipe.recv_bytes())
    if command.get("hangs"):
        time.sleep(600)
    told = {"error": command["refuses"], "refused": True} if "refuses" in command else {"did": command["do"]}
    pipe.send_bytes(frame({**told, "pid": os.getpid()}))
"""


def loaded(name, monkeypatch):
    """A module that imports NVFlare, with nothing in its place."""
    collab = types.SimpleNamespace(publish=lambda f: f, main=lambda f: f, final=lambda f: f, clients=[])
    monkeypatch.setitem(sys.modules, "nvflare", types.ModuleType("nvflare"))
    monkeypatch.setitem(sys.modules, "nvflare.collab", types.SimpleNamespace(collab=collab))
    monkeypatch.delitem(sys.modules, name, raising=False)
    found = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    return found


@pytest.fixture
def site(monkeypatch):
    camera = loaded("lkd.flare.camera", monkeypatch)

    def start(command, pass_fds, stdin):
        return subprocess.Popen(
            [sys.executable, "-c", STANDS_IN, str(pass_fds[0])],
            pass_fds=pass_fds, stdin=stdin, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip

    monkeypatch.setattr(camera, "subprocess", types.SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL))
    monkeypatch.setenv(LOCAL, "local.yaml")
    made = camera.CameraSite()
    yield made
    made.close()


def ask(site, do, body=b"", **more):
    return unframe(site.answer(frame({"do": do, **more}, body)))[0]


@pytest.mark.parametrize("do", ["info", "begin", "states", "keep", "restore", "answer"])
def test_what_hangs_is_ended_at_its_limit_and_the_next_is_done(site, do):
    first = ask(site, "info")
    told = ask(site, do, hangs=True, limit=0.3, client=2)
    assert (
        told["error"]
        == f"'{do}' was not done within 0.3 seconds, so its training process was ended, exit code -9"
    )
    assert "refused" not in told and told["client"] == 2
    again = ask(site, "info", limit=30)
    assert again["did"] == "info" and again["pid"] != first["pid"]


def test_a_process_that_does_not_even_read_is_ended(site):
    os.kill(ask(site, "info")["pid"], signal.SIGSTOP)
    told = ask(site, "restore", bytes(1 << 24), limit=0.3)
    assert told["error"].startswith("'restore' was not done within 0.3 seconds")


def test_beginning_again_has_a_limit(site):
    """A process that is told once more what the former was told, and hangs in it."""
    pid = ask(site, "begin", limit=0.5)["pid"]
    site._again["begin"] = frame({"do": "begin", "hangs": True, "limit": 0.5})
    os.kill(pid, signal.SIGKILL)
    site._child.wait()
    told = ask(site, "states", limit=30)
    assert told["error"].startswith("'begin' was not done within 0.5 seconds")


def test_a_process_that_cannot_begin_again_costs_the_round_with_its_sentence(site):
    pid = ask(site, "begin", limit=30)["pid"]
    site._again["begin"] = frame({"do": "begin", "refuses": "local.yaml: turn=3", "limit": 30})
    os.kill(pid, signal.SIGKILL)
    site._child.wait()
    for _ in range(2):
        told = ask(site, "answer", client=3)
        assert told == {"error": "local.yaml: turn=3", "client": 3}
    site._again["begin"] = frame({"do": "begin", "limit": 30})
    assert ask(site, "answer", client=3)["did"] == "answer"


def test_a_process_that_dies_over_an_answer_undoes_it_when_it_is_back(site, monkeypatch):
    ask(site, "begin", limit=30)
    ask(site, "answer", limit=30, client=3, mark=5)
    assert "undo" not in site._again
    ask(site, "answer", limit=0.5, client=3, mark=6, hangs=True)
    assert unframe(site._again["undo"])[0] == {"do": "undo", "client": 3, "mark": 6}
    told, asked = [], site._ask
    monkeypatch.setattr(site, "_ask", lambda data: told.append(unframe(data)[0]["do"]) or asked(data))
    ask(site, "states", limit=30)
    assert told == ["begin", "undo", "states"]


def test_what_dies_is_said_to_have_died(site):
    pid = ask(site, "info")["pid"]
    os.kill(pid, signal.SIGSTOP)
    (stops := subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({pid}, 9)"]))
    told = ask(site, "restore", bytes(1 << 24), limit=30)
    stops.wait()
    assert told["error"].startswith("its training process ended (") and told["error"].endswith("exit code -9")


def test_a_command_that_is_none_is_refused(site):
    told = ask(site, "shell")
    assert told["refused"] is True and "and not 'shell'" in told["error"]


def test_a_local_file_that_breaks_later_is_said_to_the_server(monkeypatch, tmp_path):
    """With the process that trains itself."""
    path = tmp_path / "local.yaml"
    path.write_text("data: {class_path: a.B}\nturn: 3")
    monkeypatch.setenv(LOCAL, str(path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    site = loaded("lkd.flare.camera", monkeypatch).CameraSite()
    told = ask(site, "info", limit=120)
    site.close()
    assert told["refused"] is True
    assert told["error"] == f"{path}: turn=3 must be [k, n], whole numbers with 0 <= k < n."


class Call:
    """A site of NVFlare that notes the limits of calls and answers late."""

    name = "site-7"

    def __init__(self):
        self.limits = []

    def __call__(self, timeout):
        self.limits.append(timeout)
        return self

    def answer(self, data):
        time.sleep(0.01)
        return frame({"error": "late"})

    def ping(self):
        return True


def test_the_relay_lets_a_site_say_itself_that_it_is_late(monkeypatch):
    relay = loaded("lkd.flare.relay", monkeypatch)
    ours, theirs = Pipe()
    site = Call()
    for command in ({"do": "states", "limit": 5.0}, {"do": "answer"}):
        ours.send_bytes(frame(command))
    ours.send_bytes(frame({"do": "undo", "quiet": True, "limit": 5.0}))
    ours.send_bytes(frame({"do": "info", "limit": 5.0}))
    carrying = relay.threading.Thread(target=relay.FrameRelay("")._carry, args=(theirs, site), daemon=True)
    carrying.start()
    assert [unframe(ours.recv_bytes())[0] for _ in range(3)] == [{"error": "late"}] * 3
    ours.close()
    carrying.join(10)
    assert site.limits == [5.0 + relay.MARGIN, relay.LONG, 5.0 + relay.MARGIN, 5.0 + relay.MARGIN]
