import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("strategy", ["plain", "find_unused"])
def test_two_ranks_hold_the_same_student_and_adapters(tmp_path, strategy):
    command = [sys.executable, "-m", "tests.callbacks.ddp_script", str(tmp_path), strategy]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{i}.pt", weights_only=True) for i in (0, 1))
    assert any(v.shape == (32, 16) for v in first.values())
    for key, value in first.items():
        if "running" not in key and "num_batches" not in key:  # DDP leaves each rank its batch statistics
            assert torch.equal(value, second[key]), key
