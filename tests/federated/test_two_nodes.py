"""The commands of docs/cluster.md: two nodes of one rank each, by torchrun, give the bits of one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/federated/digits_fedavg.yaml")
COMMON = ["fit", "--config", CONFIG, "--model.engine=Loop", "--trainer.max_epochs=2"]


def started(*command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip


def weights(folder):
    return torch.load(folder / "digits_fedavg/version_0/checkpoints/last.ckpt", weights_only=True)[
        "state_dict"
    ]


@pytest.mark.slow
def test_two_nodes_give_the_bits_of_one_process(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    nodes = [
        started(
            "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--node_rank", rank,
            "--master_addr", "127.0.0.1", "--master_port", port, "cli.py", *COMMON, "--trainer.strategy=ddp",
            "--trainer.num_nodes=2", "--trainer.devices=1", f"--trainer.logger.save_dir={tmp_path / 'two'}",
        )
        for rank in "01"
    ]  # fmt: skip
    told = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    assert "MEMBER: 2/2" in told[1]
    one = started("cli.py", *COMMON, f"--trainer.logger.save_dir={tmp_path / 'one'}")
    assert one.communicate(timeout=600) and one.returncode == 0
    here, there = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert here.keys() == there.keys() and all(
        torch.equal(value, there[name]) for name, value in here.items()
    )
