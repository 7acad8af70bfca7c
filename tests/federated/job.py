"""Federated runs as a process of its own, for tests that kill it or spread it over ranks.

    python -m tests.federated.job FOLDER DEVICES ALGORITHM=ROUNDS ...

Resumes from FOLDER/ALGORITHM/last.ckpt where there is one, prints a line a round, and saves the weights and what the
clients keep as FOLDER/ALGORITHM/result.pt.
"""

import logging
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import Dirichlet, FederatedDataModule, PoissonSampler
from lkd.federated import (
    DSFL,
    FCCL,
    FD,
    FML,
    MHD,
    SCAFFOLD,
    SCARLET,
    Attack,
    Bucketing,
    ClientDP,
    CoordinateMedian,
    CreamFL,
    Cronus,
    DecentralizedSGD,
    FedAvg,
    FedCache,
    FedDF,
    Federation,
    FedET,
    FedGen,
    FedGKT,
    FedKD,
    FedLin,
    FedMD,
    FedProto,
    FedShuffleMVR,
    KTpFL,
    LocalTraining,
    MetaStopping,
    Mime,
    ModalPrototypes,
    Ring,
    ServerTeacher,
    TopK,
    TwoHeads,
)
from lkd.models import FeatureGenerator
from lkd.modules import Classifier
from lkd.teachers import Teacher

from ..modules.modalities import CLASSES, Windows
from .knowledge.public import Speaking
from .knowledge.two_models import net, pair
from .knowledge.wearers import modules as sensors
from .peers.private import two_heads_module
from .peers.small import module as multi_head_module
from .test_rounds import Noisy


class Blobs(LightningDataModule):
    """Three clouds of points, two classes."""

    def setup(self, stage=None):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(120, 3, generator=g)
        self.data = TensorDataset(x, (x.sum(1) > 0).long())

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, shuffle=True)


class Worn(LightningDataModule):
    """Windows of two sensors."""

    def setup(self, stage=None):
        self.data = Windows(120, missing=0.0)

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, shuffle=True)


class Say(Callback):
    """A line when a round is done and its checkpoint written."""

    def on_train_epoch_end(self, trainer, pl_module):
        print(f"round {trainer.current_epoch}", flush=True)


def momentum(params):
    return torch.optim.SGD(params, lr=1.0, momentum=0.5)


def worn(algorithm):
    """Clients with both sensors, and with one."""
    first, second = sensors((("acc", "gyro"), ("acc",)), modality_dropout=0.3)
    return Federation(first, algorithm, LocalTraining(steps=2), other_models=[second])


KINDS = {
    "fedavgm": lambda: Federation(
        Noisy(momentum=0.9), FedAvg(), LocalTraining(epochs=(1, 3)), server_optimizer=momentum
    ),
    "scaffold": lambda: Federation(Noisy(), SCAFFOLD(), LocalTraining(steps=3)),
    "outlier": lambda: Federation(
        Noisy(momentum=0.9),
        FedAvg(),
        LocalTraining(epochs=(1, 3)),
        server_optimizer=momentum,
        attack=Attack([1], "scale", 1e30),
        aggregator=Bucketing(CoordinateMedian(), 2),
    ),
    "fedbn": lambda: Federation(Noisy(), Mime(), LocalTraining(steps=2), personal_layers=["batchnorm"]),
    "mvr": lambda: Federation(Noisy(interval="epoch"), FedShuffleMVR(), LocalTraining(epochs=2)),
    "fedlin": lambda: Federation(Noisy(), FedLin(), LocalTraining(steps=2)),
    "decentralized_sgd": lambda: Federation(
        Noisy(momentum=0.9), DecentralizedSGD(Ring(), "before"), LocalTraining(steps=2)
    ),
    "cronus": lambda: Federation(
        Speaking(),
        Cronus(0.4, samples=9, batch_size=3),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "mhd": lambda: Federation(
        multi_head_module(),
        MHD(Ring(), pool=2, batch_size=4),
        LocalTraining(steps=2),
        other_models=[multi_head_module(width=7)],
    ),
    "two_heads": lambda: Federation(
        two_heads_module(),
        TwoHeads(Ring(), warmup=1, stopping=MetaStopping(most=2)),
        LocalTraining(steps=2),
    ),
    "ktpfl": lambda: Federation(
        Speaking(),
        KTpFL(samples=9, batch_size=3),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "fccl": lambda: Federation(
        Speaking(),
        FCCL(samples=9, batch_size=3, layer="net"),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "fedet": lambda: Federation(
        Speaking(),
        FedET(steps=3, batch_size=5),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9), Speaking()],
        client_models=[1, 2, 1, 2, 1],
        shared_layers=["net.4"],
    ),
    "mixed": lambda: Federation(
        Noisy(),
        FedAvg(),
        LocalTraining(steps=2),
        momentum,
        other_models=[Noisy(momentum=0.9)],
        shared_layers=["net.0", "net.1"],
    ),
    "fedmd": lambda: Federation(
        Speaking(),
        FedMD(samples=9, epochs=2, batch_size=3, pretrain=2),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "feddf": lambda: Federation(
        Speaking(),
        FedDF(steps=4, batch_size=5, check=2),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "fd": lambda: Federation(
        Speaking(), FD(layer="net"), LocalTraining(steps=2), other_models=[Speaking(momentum=0.9)]
    ),
    "fedproto": lambda: Federation(
        Speaking(), FedProto("net.2", 2), LocalTraining(steps=2), other_models=[Speaking(momentum=0.9)]
    ),
    "dsfl": lambda: Federation(
        Speaking(),
        DSFL(samples=9, epochs=2, batch_size=3),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "scarlet": lambda: Federation(
        Speaking(),
        SCARLET(duration=2, samples=9, epochs=2, batch_size=3),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "server_teacher": lambda: Federation(
        Speaking(),
        ServerTeacher(Teacher(Speaking(momentum=0.9)), samples=9, epochs=2, batch_size=3),
        LocalTraining(steps=2),
        other_models=[Speaking(momentum=0.9)],
    ),
    "fml": lambda: Federation(
        pair(noisy=True),
        FML(),
        LocalTraining(steps=2),
        other_models=[pair(2, width=7, noisy=True)],
        personal_layers=["network.private"],
        shared_layers=["network.shared"],
    ),
    "fedcache": lambda: Federation(
        Classifier(net(1, noisy=True), 2),
        FedCache(torch.nn.Flatten(), related=3),
        LocalTraining(steps=2),
        other_models=[Classifier(net(2, 7, noisy=True), 2)],
    ),
    "fedgen": lambda: Federation(
        Classifier(net(1, noisy=True), 2),
        FedGen(FeatureGenerator(2, 5), "network.4", steps=4),
        LocalTraining(steps=2),
        personal_layers=["network.0"],
    ),
    "fedgkt": lambda: Federation(
        Classifier(net(1, noisy=True), 2),
        FedGKT(Classifier(net(3, features=5, noisy=True), 2), "network.2"),
        LocalTraining(steps=2),
    ),
    "modal_prototypes": lambda: worn(ModalPrototypes(CLASSES)),
    "creamfl": lambda: worn(CreamFL(samples=9, batch_size=3)),
    "fedkd": lambda: Federation(
        pair(noisy=True),
        FedKD(5, 0.6, 0.9),
        LocalTraining(steps=2),
        other_models=[pair(2, width=7, noisy=True)],
    ),
}

if find_spec("dp_accounting"):
    KINDS["private"] = lambda: Federation(
        Noisy(),
        FedAvg(weighting="uniform"),
        LocalTraining(steps=2),
        momentum,
        personal_layers=["batchnorm"],
        codec=TopK(share=0.5),
        privacy=ClientDP(clip=0.05, noise_multiplier=0.7, delta=1e-2),
    )

PUBLIC = (
    "creamfl",
    "cronus",
    "dsfl",
    "fccl",
    "feddf",
    "fedet",
    "fedmd",
    "ktpfl",
    "mhd",
    "scarlet",
    "server_teacher",
)
"""Those that exchange what is said of public data."""
SENSORS = ("creamfl", "modal_prototypes")
"""Those that are for several modalities."""


def run(kind, folder, rounds, devices=1, callbacks=(), engine=None, make=None):
    """The run; returns the federation."""
    torch.manual_seed(3)
    federation = (make or KINDS[kind])()
    if engine is not None:
        federation.engine = engine
    cohort = {"fedlin": None, "private": PoissonSampler(0.6)}.get(kind, 3)
    public = 0.2 if kind in PUBLIC else 0.0
    parts = (0.7, 0.3, 0.0) if kind == "two_heads" else (1.0, 0.0, 0.0)
    data = FederatedDataModule(
        Worn() if kind in SENSORS else Blobs(),
        Dirichlet(alpha=1.0),
        clients=5,
        cohort=cohort,
        seed=4,
        public=public,
        client_fractions=parts,
    )
    checkpoint = ModelCheckpoint(
        folder, filename="{epoch}", save_last=True, every_n_epochs=1, save_on_train_epoch_end=True
    )
    trainer = Trainer(
        max_epochs=rounds,
        accelerator="cpu",
        devices=devices,
        strategy="auto" if devices == 1 else "ddp",
        logger=False,
        callbacks=[checkpoint, *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = Path(folder) / "last.ckpt"
    trainer.fit(federation, datamodule=data, ckpt_path=str(last) if last.exists() else None)
    kept = {
        c: state
        for part in federation.ranks.gather_objects(federation.engine.state_dict()["clients"])
        for c, state in part.items()
    }
    if trainer.is_global_zero:
        result = {
            "weights": federation.state_dict(),
            "kept": dict(sorted(kept.items())),
            "state": federation.algorithm.state,
            "spent": torch.tensor(0.0 if federation.budget is None else federation.budget.ledger.epsilon()),
        }
        torch.save(result, Path(folder) / "result.pt")
    return federation


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    folder, devices, *kinds = sys.argv[1:]
    for kind, rounds in (word.split("=") for word in kinds):
        run(kind, Path(folder, kind), int(rounds), int(devices), [Say()])
