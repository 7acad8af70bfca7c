"""Bit for bit the same: resumed or not, killed or not; in one process or two: test_two_ranks.py."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lkd.datamodules import IID, Dirichlet, FederatedDataModule
from lkd.federated import FedAdam, FedAvg, Federation
from lkd.federated.server.checkpoint import ClientRoster

from .job import KINDS, Blobs, run
from .quadratic import loader, trainer
from .test_rounds import Noisy, samples

ROOT = Path(__file__).parents[2]
KEEP_NOTHING = ("feddf", "fedavgm", "fedlin", "mixed", "mvr", "fedet", "outlier")
"""Kinds whose clients have nothing of their own."""


def flat(value):
    """All tensors of a nested result, in order."""
    if isinstance(value, dict):
        return [t for key in value for t in flat(value[key])]
    return [value]


def result(folder):
    return torch.load(Path(folder) / "result.pt", weights_only=True)


def assert_same(one, two):
    assert one.keys() == two.keys()
    assert one["kept"].keys() == two["kept"].keys()
    a, b = flat(one), flat(two)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y), (x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_equals_uninterrupted(kind, tmp_path):
    run(kind, tmp_path / "whole", 5)
    run(kind, tmp_path / "parts", 2)
    assert len(result(tmp_path / "whole")["kept"]) == (0 if kind in KEEP_NOTHING else 5)
    run(kind, tmp_path / "parts", 5)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))


def start(folder, devices=1, **rounds):
    """Kinds for some rounds, one after the other, in a process of their own, or two: to begin one takes seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    kinds = [f"{kind}={number}" for kind, number in rounds.items()]
    command = [sys.executable, "-m", "tests.federated.job", str(folder), str(devices), *kinds]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.mark.parametrize(("kind", "times"), [("scaffold", 2), ("fedbn", 1)])
def test_killed_and_resumed_equals_uninterrupted(kind, times, tmp_path):
    """SIGKILL wherever it hits, after one to three rounds, and again; then to the end."""
    draw, killed = random.Random(5), tmp_path / "killed" / kind
    for _ in range(times):
        process = start(tmp_path / "killed", **{kind: 400})
        for _ in range(draw.randint(1, 3)):
            line = process.stdout.readline()
            assert line.startswith("round"), process.stderr.read()[-3000:]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = torch.load(killed / "last.ckpt", weights_only=True)
    done = last["epoch"] + 1
    run(kind, killed, done + 2)
    run(kind, tmp_path / "whole", done + 2)
    assert_same(result(tmp_path / "whole"), result(killed))


def test_checkpoint_of_another_algorithm_is_refused(tmp_path):
    run("scaffold", tmp_path, 1)
    other = Federation(Noisy(), FedAvg())
    with pytest.raises(ValueError, match="is of the algorithm SCAFFOLD, not of FedAvg"):
        trainer(2).fit(other, loader(samples()), ckpt_path=str(tmp_path / "last.ckpt"))


def test_weights_of_another_algorithm_can_be_loaded_and_trained(tmp_path):
    saved = run("scaffold", tmp_path, 1)
    other = Federation.load_from_checkpoint(tmp_path / "last.ckpt", model=Noisy())
    assert torch.equal(other.model.net[0].weight, saved.model.net[0].weight)
    trainer(1).fit(other, loader(samples()))
    assert other.algorithm.state == {} and len(other.engine.host.store) == 0


def test_checkpoint_of_another_server_optimizer_is_refused(tmp_path):
    run("fedavgm", tmp_path, 1)
    other = Federation(Noisy(), server_optimizer=FedAdam)
    with pytest.raises(ValueError, match="is of the server optimizer SGD, not of FedAdam"):
        trainer(2).fit(other, loader(samples()), ckpt_path=str(tmp_path / "last.ckpt"))


@pytest.mark.parametrize(
    "data",
    [
        lambda: FederatedDataModule(Blobs(), Dirichlet(alpha=1.0), clients=6, cohort=3, seed=4),
        lambda: FederatedDataModule(Blobs(), Dirichlet(alpha=1.0), clients=5, cohort=3, seed=5),
    ],
    ids=["number", "sizes"],
)
def test_checkpoint_of_other_clients_is_refused_before_any_trains(data, tmp_path):
    run("scaffold", tmp_path, 1)
    module = KINDS["scaffold"]()
    with pytest.raises(ValueError, match=r"the checkpoint is of 5 clients, and these \d are not the same"):
        trainer(2).fit(module, datamodule=data(), ckpt_path=str(tmp_path / "last.ckpt"))
    assert module.records == []


def test_clients_of_equal_sizes_with_other_samples_are_other_clients():
    def meet(known, seed):
        data = FederatedDataModule(Blobs(), IID(), clients=5, seed=seed)
        data.setup("fit")
        clients = ClientRoster(known)
        assert clients.meet(data.train_dataloader(), 5)
        return clients.known

    known = meet(None, seed=4)
    assert meet(known, seed=4) == known
    with pytest.raises(ValueError, match="the checkpoint is of 5 clients, and these 5 are not the same"):
        meet(known, seed=5)
    del known["rows"]  # a file of an earlier version
    meet(known, seed=5)


def test_clients_are_measured_with_their_own_layers_whatever_the_algorithm(tmp_path):
    """`test` under another algorithm, as in a study that has one config for its tables."""
    saved = run("fedbn", tmp_path, 1)
    other = Federation(Noisy(), FedAvg(), personal_layers=["batchnorm"])
    made = trainer(1)
    other.test_step = lambda batch, batch_idx=0: None
    made.test(other, [torch.zeros(1)], ckpt_path=str(tmp_path / "last.ckpt"), verbose=False)
    other.evaluate([], "test")
    assert other.algorithm.state == {}
    for client, state in saved.engine.host.store.state_dict().items():
        kept = other.engine.host.store.get(client)
        assert kept.keys() == {"personal"}
        assert_same({"kept": state["personal"]}, {"kept": kept["personal"]})
