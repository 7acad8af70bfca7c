"""Sites that are killed, frozen, cut off and started again, as real processes, and a server that is killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from lkd.federated.engines.nvflare import installed
from lkd.flare.kit import read_kit
from lkd.flare.kits import ADMIN, SERVER, provision

from ..job import run
from ..test_exact import assert_same, result
from . import machines as m
from .described import DATA
from .machines import Befalls, Misses, processes, wait

psutil = pytest.importorskip("psutil")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not installed(), reason='NVFlare is not installed: pip install "lightning-kd[nvflare]"'
    ),
]


def assert_as_without_them(befalls, folder, rounds):
    """The run, and one in this process with the same participants, give the same bits."""
    run("scaffold", folder / "loop", rounds, engine=Misses(befalls.missed()))
    assert_same(result(folder / "machines"), result(folder / "loop"))


def signalled(engine, what, word=""):
    return lambda site: [each.send_signal(what) for each in processes(engine, site, word)]


def killed(engine, word=""):
    """Stops processes now, so that they do not answer, and kills them in a second, in the middle of the round."""

    def kill(site):
        victims = processes(engine, site, word)
        for victim in victims:
            victim.send_signal(signal.SIGSTOP)
        threading.Timer(1.0, lambda: [victim.kill() for victim in victims]).start()

    return kill


def has_joined(engine, site):
    """Whether a site is in connection again, or will be before the next exchange."""
    return lambda: engine._sites[f"site-{site}"].lives or engine._deployment.joined.qsize() > 0


def test_a_training_process_that_is_killed_costs_its_clients_the_round_and_nothing_else(tmp_path, machines):
    kills = Befalls(machines, 1, killed(machines, "site_process"))
    run("scaffold", tmp_path / "machines", 4, callbacks=[kills], engine=machines)
    assert list(kills.missed()) == [1] and {k % 3 for k in kills.missed()[1]} == {kills.site}
    assert all("its training process ended" in told for told in kills.errors[1].values())
    assert_as_without_them(kills, tmp_path, 4)


def test_a_site_that_is_frozen_loses_rounds_and_comes_back(tmp_path, machines):
    """What it has still done of the round that it lost does not count."""

    def thaws(site):
        signalled(machines, signal.SIGCONT)(site)
        wait(has_joined(machines, site))

    freezes = Befalls(machines, 1, signalled(machines, signal.SIGSTOP), thaws, 3)
    run("scaffold", tmp_path / "machines", 6, callbacks=[freezes], engine=machines)
    assert 1 in freezes.missed() and max(freezes.missed()) < 3
    assert all({k % 3 for k in clients} == {freezes.site} for clients in freezes.missed().values())
    assert_as_without_them(freezes, tmp_path, 6)


def test_a_site_that_is_killed_and_started_again_takes_part_in_the_next_segment(tmp_path, machines):
    def starts(site):
        m.start_again(machines, site)
        lost = machines._sites[f"site-{site}"].lost
        wait(lambda: machines._deployment.connected().get(f"site-{site}", 0.0) > lost)

    before = machines._deployment._job if machines._deployment else ""
    kills = Befalls(machines, 1, killed(machines), starts, 3)
    run("scaffold", tmp_path / "machines", 6, callbacks=[kills], engine=machines)
    assert 1 in kills.missed() and max(kills.missed()) < 3
    told = [text for errors in kills.errors for text in errors.values()]
    assert all(f"site site-{kills.site} is" in text for text in told)
    assert machines._deployment._job != before
    assert_as_without_them(kills, tmp_path, 6)


@pytest.mark.skipif(not m.separable(), reason="a network of its own needs root, and the command ip")
def test_a_site_that_is_cut_off_loses_rounds_and_comes_back(tmp_path, machines):
    """Nothing says that the cable was pulled: no connection is closed, and packets are lost."""

    def plugs(site):
        m.ip("link", "set", m.SITE, "up")
        wait(has_joined(machines, site))

    cut = Befalls(machines, 1, lambda site: m.ip("link", "set", m.SITE, "down"), plugs, 4, site=m.APART)
    run("scaffold", tmp_path / "machines", 7, callbacks=[cut], engine=machines)
    assert cut.missed() and min(cut.missed()) >= 1 and max(cut.missed()) < 4
    assert all({k % 3 for k in clients} == {m.APART} for clients in cut.missed().values())
    assert_as_without_them(cut, tmp_path, 7)


TRAINER = """
import sys
from pathlib import Path

from lkd.federated.engines import NVFlare
from tests.federated.engines.described import plan
from tests.federated.job import Say, run

kit, folder, rounds = sys.argv[1:]
engine = NVFlare(kit=kit, sites=2, description=plan("scaffold"), start_timeout=600)
run("scaffold", Path(folder), int(rounds), callbacks=[Say()], engine=engine)
"""
ROOT = Path(__file__).parents[3]


class Owners:
    """A server and two cameras from kits, started as their owners would, and the server's Trainer."""

    def __init__(self, folder):
        self.folder, self.running = folder, {}
        self.kits = provision(folder, ["site-0", "site-1"])
        for turn in (0, 1):
            local = {
                "data": DATA,
                "turn": [turn, 2],
                "allow": ["tests"],
                "folder": str(folder / f"kept-{turn}"),
            }
            (folder / f"site-{turn}.yaml").write_text(json.dumps(local))

    def start(self, name, *command, **kwargs):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.folder),
            "OMP_NUM_THREADS": "1",
        }
        self.running[name] = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.STDOUT,
            text=True,
            **kwargs,
        )
        return self.running[name]

    def camera(self, name):
        data = [] if name == SERVER else ["--data", str(self.folder / f"{name}.yaml")]
        with (self.folder / f"{name}.txt").open("a") as output:
            self.start(name, "cli.py", "camera", *data, "--kit", str(self.kits / name), stdout=output)

    def listens(self):
        """Whether the server can be reached."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", read_kit(self.kits / SERVER).port), timeout=1).close()
            return True
        return False

    def trainer(self, folder, rounds):
        more = [str(self.kits / ADMIN), str(folder), str(rounds)]
        return self.start("trainer", "-c", TRAINER, *more, stdout=subprocess.PIPE)

    def kill(self, name):
        process = self.running.pop(name)
        if process.poll() is None:
            family = psutil.Process(process.pid)
            for each in [*family.children(recursive=True), family]:
                each.kill()
        process.wait()


@pytest.fixture
def owners(tmp_path):
    found = Owners(tmp_path)
    found.camera(SERVER)
    wait(found.listens)  # a camera that finds no server says so and ends
    for name in ("site-0", "site-1"):
        found.camera(name)
    yield found
    for name in list(found.running):
        found.kill(name)


def test_a_server_that_is_killed_goes_on_from_the_last_round(tmp_path, owners):
    """Its Trainer and NVFlare's server get kill -9; the cameras know nothing of it and wait for a new job."""
    trainer = owners.trainer(tmp_path / "machines", 100_000)
    lines = (line for line in trainer.stdout if line.startswith("round"))
    assert [next(lines, "") for _ in range(3)] == [f"round {k}\n" for k in range(3)]
    for name in ("trainer", SERVER):
        owners.kill(name)
    done = torch.load(tmp_path / "machines/last.ckpt", weights_only=True)["epoch"] + 1
    assert done >= 2  # the last round may not be written yet
    owners.camera(SERVER)
    told = owners.trainer(tmp_path / "machines", done + 2).communicate(timeout=600)[0]
    assert [line for line in told.splitlines() if line.startswith("round")] == [
        f"round {done}", f"round {done + 1}"
    ], told[-3000:]  # fmt: skip
    run("scaffold", tmp_path / "loop", done + 2)
    assert_same(result(tmp_path / "machines"), result(tmp_path / "loop"))
