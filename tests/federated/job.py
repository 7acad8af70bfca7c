"""A federated run as a process of its own, for tests that kill it or spread it over ranks.

    python -m tests.federated.job ALGORITHM FOLDER ROUNDS [DEVICES]

Resumes from FOLDER/last.ckpt where there is one, prints a line a round, and saves the weights and what the clients
keep as FOLDER/result.pt.
"""

import logging
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import Dirichlet, FederatedDataModule
from lkd.federated import FedAvg, Federation, FedLin, FedShuffleMVR, LocalWork, Mime, Scaffold

from .test_rounds import Noisy


class Blobs(LightningDataModule):
    """Three clouds of points, two classes."""

    def setup(self, stage=None):
        g = torch.Generator().manual_seed(0)
        x = torch.randn(120, 3, generator=g)
        self.data = TensorDataset(x, (x.sum(1) > 0).long())

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, shuffle=True)


class Say(Callback):
    """A line when a round is done and its checkpoint written."""

    def on_train_epoch_end(self, trainer, pl_module):
        print(f"round {trainer.current_epoch}", flush=True)


def momentum(params):
    return torch.optim.SGD(params, lr=1.0, momentum=0.5)


KINDS = {
    "fedavgm": lambda: Federation(
        Noisy(momentum=0.9), FedAvg(), LocalWork(epochs=(1, 3)), server_optimizer=momentum
    ),
    "scaffold": lambda: Federation(Noisy(), Scaffold(), LocalWork(steps=3)),
    "fedbn": lambda: Federation(Noisy(), Mime(), LocalWork(steps=2), personal=["batchnorm"]),
    "mvr": lambda: Federation(Noisy(interval="epoch"), FedShuffleMVR(), LocalWork(epochs=2)),
    "fedlin": lambda: Federation(Noisy(), FedLin(), LocalWork(steps=2)),
}


def run(kind, folder, rounds, devices=1, callbacks=()):
    """The run; returns the federation."""
    torch.manual_seed(3)
    federation = KINDS[kind]()
    cohort = None if kind == "fedlin" else 3
    data = FederatedDataModule(Blobs(), Dirichlet(alpha=1.0), clients=5, cohort=cohort, seed=4)
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
        for part in federation.ranks.gather_objects(federation.store.state_dict())
        for c, state in part.items()
    }
    if trainer.is_global_zero:
        result = {
            "weights": federation.state_dict(),
            "kept": dict(sorted(kept.items())),
            "state": federation.algorithm.state,
        }
        torch.save(result, Path(folder) / "result.pt")
    return federation


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    kind, folder, rounds, *rest = sys.argv[1:]
    run(kind, folder, int(rounds), int(rest[0]) if rest else 1, [Say()])
