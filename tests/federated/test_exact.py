"""Bit for bit the same: resumed or not, killed or not, in one process or two."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lkd.federated import FedAvg, Federation

from .job import KINDS, run
from .quadratic import Quadratic, loader, trainer, two_clients

ROOT = Path(__file__).parents[2]


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
    assert len(result(tmp_path / "whole")["kept"]) == (0 if kind in ("fedavgm", "mvr", "fedlin") else 5)
    run(kind, tmp_path / "parts", 5)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))


def start(kind, folder, rounds, devices=1):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.federated.job", kind, str(folder), str(rounds), str(devices)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.mark.parametrize("kind", ["scaffold", "fedbn"])
def test_killed_and_resumed_equals_uninterrupted(kind, tmp_path):
    """SIGKILL wherever it hits, after one to three rounds, twice; then to the end."""
    rounds, draw = 400, random.Random(5)
    for _ in range(2):
        process = start(kind, tmp_path / "killed", rounds)
        for _ in range(draw.randint(1, 3)):
            line = process.stdout.readline()
            assert line.startswith("round"), process.stderr.read()[-3000:]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = torch.load(tmp_path / "killed/last.ckpt", weights_only=True)
    done = last["epoch"] + 1
    run(kind, tmp_path / "killed", done + 2)
    run(kind, tmp_path / "whole", done + 2)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "killed"))


@pytest.mark.parametrize("kind", ["scaffold", "fedavgm"])
def test_two_ranks_equal_one(kind, tmp_path):
    """Cohorts of three of five clients: the ranks have unequal numbers of them, sometimes none."""
    process = start(kind, tmp_path / "two", 4, devices=2)
    run(kind, tmp_path / "one", 4)
    finish(process)
    assert_same(result(tmp_path / "one"), result(tmp_path / "two"))


def test_a_run_on_two_ranks_goes_on_with_one(tmp_path):
    process = start("fedbn", tmp_path / "changed", 2, devices=2)
    run("fedbn", tmp_path / "one", 4)
    finish(process)
    run("fedbn", tmp_path / "changed", 4)
    assert_same(result(tmp_path / "one"), result(tmp_path / "changed"))


def test_checkpoint_of_another_algorithm_is_refused(tmp_path):
    run("scaffold", tmp_path, 1)
    other = Federation(Quadratic(), FedAvg())
    with pytest.raises(ValueError, match="is of the algorithm Scaffold, not of FedAvg"):
        trainer(1).fit(other, loader(two_clients()), ckpt_path=str(tmp_path / "last.ckpt"))
