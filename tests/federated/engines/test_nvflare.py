"""Real processes: a server of NVFlare and three sites on loopback, by mutual TLS. Without NVFlare, see test_site.py."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGSTOP

import pytest
from lightning.pytorch import Callback

from lkd.federated.engines import Loop, NVFlare
from lkd.federated.engines.nvflare import installed
from lkd.federated.protocol.messages import Reply

from ..job import run
from ..test_exact import assert_same, result
from .described import plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not installed(), reason='NVFlare is not installed: pip install "lightning-kd[nvflare]"'
    ),
]


@pytest.fixture(scope="module")
def engine():
    """Three sites, for all tests of this file: to begin takes half a minute."""
    engine = NVFlare(allow=["tests"], description=plan("scaffold"), keep=True, start_timeout=600)
    yield engine
    engine.keep_sites = False
    engine.close()


def test_same_bits(tmp_path, engine):
    run("scaffold", tmp_path / "loop", 3)
    run("scaffold", tmp_path / "sites", 3, engine=engine)
    assert_same(result(tmp_path / "loop"), result(tmp_path / "sites"))


class Kills(Callback):
    """Stops processes of the first client's site before a round and kills them in it, while they should work."""

    def __init__(self, engine, at, word=""):
        self.engine, self.at, self.word, self.errors, self.site = engine, at, word, [], None

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == self.at:
            self.site = batch[0].id % 3
            victims = processes(self.engine, self.site, self.word)
            for victim in victims:
                victim.send_signal(SIGSTOP)
            threading.Timer(1.0, lambda: [victim.kill() for victim in victims]).start()

    def on_train_batch_end(self, trainer, module, *args):
        self.errors.append({record.client: record.error for record in module.records if record.error})


def processes(engine, number, word):
    """The processes of a site whose command has a word."""
    import psutil

    parent = psutil.Process(engine._deployment._running[1 + number].pid)  # the server is the first
    return [p for p in [*parent.children(recursive=True), parent] if word in " ".join(p.cmdline())]


class Misses(Loop):
    """A loop in which clients do nothing in a round, as if they were not there."""

    def __init__(self, clients, at):
        super().__init__()
        self.clients, self.at = clients, at

    def exchange(self, verb, messages, timeout=None):
        missing = [k for k, m in messages.items() if k in self.clients and m.config["round"] == self.at]
        yield from super().exchange(verb, {k: m for k, m in messages.items() if k not in missing}, timeout)
        yield from (Reply(client=client, error="missing") for client in missing)


def test_a_training_process_that_is_killed_costs_its_clients_the_round_and_nothing_else(tmp_path, engine):
    kills = Kills(engine, 1, "site_process")
    run("scaffold", tmp_path / "killed", 4, callbacks=[kills], engine=engine)
    assert kills.errors[0] == kills.errors[2] == kills.errors[3] == {}
    assert kills.errors[1] and all("its training process ended" in told for told in kills.errors[1].values())
    assert {client % 3 for client in kills.errors[1]} == {kills.site}
    run("scaffold", tmp_path / "whole", 4, engine=Misses(set(kills.errors[1]), 1))
    assert_same(result(tmp_path / "killed"), result(tmp_path / "whole"))


class Freezes(Kills):
    """Stops a whole site for a round, and waits for it before the last."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == self.at:
            self.site = batch[0].id % 3
            self.victims = processes(self.engine, self.site, "")
            for victim in self.victims:
                victim.send_signal(SIGSTOP)
        if trainer.current_epoch == 3:
            until = time.monotonic() + 120
            site, joined = self.engine._sites[f"site-{self.site}"], self.engine._deployment.joined
            while not site.lives and joined.empty() and time.monotonic() < until:
                time.sleep(0.1)

    def on_train_batch_end(self, trainer, module, batch, batch_idx, *args):
        super().on_train_batch_end(trainer, module, batch)
        if trainer.current_epoch == self.at:
            for victim in self.victims:
                victim.send_signal(SIGCONT)


def test_a_site_that_is_frozen_loses_rounds_and_comes_back(tmp_path, engine):
    freezes = Freezes(engine, 1)
    run("scaffold", tmp_path, 6, callbacks=[freezes], engine=engine)
    assert freezes.errors[1] and {client % 3 for client in freezes.errors[1]} == {freezes.site}
    assert freezes.errors[3:] == [{}, {}, {}]
    assert not engine._deployment.joined.qsize() and engine._sites[f"site-{freezes.site}"].lives


def test_a_site_that_is_killed_costs_its_clients_the_rounds_and_the_run_goes_on(tmp_path, engine):
    kills = Kills(engine, 1)
    run("scaffold", tmp_path, 4, callbacks=[kills], engine=engine)
    assert kills.errors[0] == {} and kills.errors[1] and len(kills.errors) == 4
    told = [(client % 3, text) for errors in kills.errors for client, text in errors.items()]
    assert all(site == kills.site and f"site site-{site} is" in text for site, text in told)


CTRL_C = """
from pathlib import Path
import sys

from lightning.pytorch import Callback

from lkd.federated.engines import NVFlare
from tests.federated.engines.described import plan
from tests.federated.job import run


class Says(Callback):
    def on_train_batch_end(self, trainer, module, *args):
        here = module.engine._deployment
        print("round", here._folder, *here.pids(), flush=True)


engine = NVFlare(sites=2, allow=["tests"], description=plan("fedavgm"), start_timeout=600)
run("fedavgm", Path(sys.argv[1]), 1_000_000, callbacks=[Says()], engine=engine)
"""


def test_nothing_is_left_after_ctrl_c(tmp_path):
    import psutil

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        folder, *pids = next(line.split()[1:] for line in process.stdout if line.startswith("round"))
        assert len(pids) > 5 and Path(folder).is_dir()
        process.send_signal(SIGINT)
        for _ in process.stdout:  # else it could wait for someone to read
            pass
        assert process.wait(60) == 1
    assert not Path(folder).exists() and not [pid for pid in pids if psutil.pid_exists(int(pid))]
