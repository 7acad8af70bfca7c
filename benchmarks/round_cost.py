"""The fixed cost of a round: the Trainer, the federation and the aggregation around one client that does nothing.

    python benchmarks/round_cost.py

CPU milliseconds of a round with a model of 1 MB, best of several fits: bare, and with progress bar, CSV logger,
validation and a checkpoint every round.
"""

import contextlib
import io
import logging
import tempfile
import time
import warnings

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import Federation
from lkd.metrics.tables import print_table

ROUNDS, REPEATS = 50, 5


class Idle(LightningModule):
    """250,000 weights, and a loss that costs nothing and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(250_000))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """No loss."""
        self.log("train/loss", 0.0)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """A metric for nothing."""
        self.log("val/loss", 0.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


class One(LightningDataModule):
    """One sample."""

    def train_dataloader(self) -> DataLoader:
        """It."""
        return DataLoader(TensorDataset(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)))

    val_dataloader = train_dataloader


class Clock(Callback):
    """CPU seconds of a round, from the fifth to the last."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts after a warm-up."""
        if trainer.current_epoch == 5:
            self.start = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        self.milliseconds = 1000 * (time.process_time() - self.start) / (ROUNDS - 5)


def measure(full: bool) -> float:
    """One fit."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        checkpoint = [ModelCheckpoint(folder, every_n_epochs=1, save_on_train_epoch_end=True)] if full else []
        trainer = Trainer(
            max_epochs=ROUNDS,
            accelerator="cpu",
            logger=CSVLogger(folder) if full else False,
            callbacks=[clock, *checkpoint],
            enable_checkpointing=full,
            enable_progress_bar=full,
            enable_model_summary=False,
            limit_val_batches=None if full else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        trainer.fit(Federation(Idle()), datamodule=FederatedDataModule(One(), IID(), clients=1))
    return clock.milliseconds


def main() -> None:
    """Prints the table."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows = [
        {"ServerRound": name, "CPU ms": round(min(measure(full) for _ in range(REPEATS)), 2)}
        for name, full in (("bare", False), ("bar, CSV, validation, checkpoint", True))
    ]
    print_table(rows, "Fixed cost of a round, 1 MB model")


if __name__ == "__main__":
    main()
