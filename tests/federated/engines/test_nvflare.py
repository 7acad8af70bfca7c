"""What clients at sites of NVFlare do, as real processes by mutual TLS, to the same bits as in this one. Without NVFlare: test_site.py."""

import os
import subprocess
import sys
from pathlib import Path
from signal import SIGINT

import pytest

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated.engines import Loop

from ..job import KINDS, run
from ..knowledge.test_box_exchange import Data
from ..quadratic import trainer
from ..test_exact import assert_same, result
from . import described
from .machines import give
from .test_same_bits import MORE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "kind",
    sorted({*KINDS, *MORE} - {"centralized"}, key=lambda kind: (str(described.data_of(kind)), kind)),
)  # to give other data costs seconds; those of all clients are nowhere in one place
def test_same_bits(kind, tmp_path, machines):
    """Weights, the server's state, and what every client keeps, after three rounds of three of five clients."""
    machines.description = described.plan(kind)
    give(machines, described.data_of(kind))
    run(kind, tmp_path / "here", 3, make=MORE.get(kind))
    run(kind, tmp_path / "there", 3, make=MORE.get(kind), engine=machines)
    assert_same(result(tmp_path / "here"), result(tmp_path / "there"))


@pytest.mark.parametrize("algorithm", ["box_exchange", "feddf_boxes"])
def test_detectors_of_two_families_that_exchange_boxes(algorithm, machines):
    """Three cameras; what each says of frames passes the real relay, and its bytes are counted alike."""
    found, sizes = [], []
    for engine in (Loop(), machines):
        federation = described.boxes(algorithm)
        federation.engine = engine
        if engine is machines:
            machines.description = described.made_by(described.boxes, described.BOXES, algorithm=algorithm)
            give(machines, described.BOXES)
        shards = FederatedDataModule(Data(), IID(), clients=3, public=0.2)
        trainer(2, limit_val_batches=0).fit(federation, shards)
        found.append({"weights": federation.state_dict(), "kept": engine.state_dict()["clients"]})
        sizes.append((federation.bytes_down, federation.bytes_up))
    assert_same(*found)
    assert sizes[0] == sizes[1] and sizes[0][1] > 0


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
