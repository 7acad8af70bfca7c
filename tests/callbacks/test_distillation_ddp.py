import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lkd.edge.cache import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have left what each holds after every run of the script."""
    made = tmp_path_factory.mktemp("ddp")
    command = [sys.executable, "-m", "tests.callbacks.ddp_script", str(made)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return made


def ranks(folder, name):
    return [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["plain", "find_unused", "cold", "warm"])
def test_two_ranks_hold_the_same_student_and_adapters(folder, name):
    first, second = ranks(folder, name)
    assert any(v.shape == (32, 16) for v in first.values())
    for key, value in first.items():
        if "running" not in key and "num_batches" not in key:  # DDP leaves each rank its batch statistics
            assert torch.equal(value, second[key]), key


def test_two_ranks_with_one_cache_learn_what_they_learn_without(folder):
    for name in ("cold", "warm"):
        for live, cached in zip(ranks(folder, "plain"), ranks(folder, name), strict=True):
            assert all(torch.equal(value, cached[key]) for key, value in live.items())
    (row,) = Store(folder / "cache").stat()
    answers = 2 * 64  # two layers of 64 samples, found in three epochs of four
    assert row["answers"] == answers and row["hits"] >= 3 * answers
