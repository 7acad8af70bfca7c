"""Memory with a hundred thousand registered clients of which a hundred take part in a round.

    python benchmarks/many_clients.py

Peak resident memory of a process for each number of registered clients, each in a process of its own, with FedAvg (nothing
is kept) and SCAFFOLD (a variate for every client that has taken part), 20 rounds, 100 clients a round.
"""

import argparse
import logging
import resource
import subprocess
import sys
import warnings

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import SCAFFOLD, FedAvg, Federation, LocalTraining
from lkd.metrics.tables import print_table
from lkd.modules import Classifier

ROUNDS, COHORT, SAMPLES = 20, 100, 200_000


class Flat(LightningDataModule):
    """The same 200,000 samples, however many clients share them."""

    def setup(self, stage: str | None = None) -> None:
        """Zeros."""
        self.data = TensorDataset(torch.zeros(SAMPLES, 8), torch.zeros(SAMPLES, dtype=torch.int64))

    def train_dataloader(self) -> DataLoader:
        """Batches of two."""
        return DataLoader(self.data, batch_size=2)


def one(clients: int, algorithm: str) -> None:
    """Runs and prints kilobytes."""
    module = Classifier(
        nn.Sequential(nn.Linear(8, 1000), nn.Linear(1000, 10)),
        10,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    )
    rule = SCAFFOLD() if algorithm == "SCAFFOLD" else FedAvg()
    data = FederatedDataModule(Flat(), IID(), clients=clients, cohort=COHORT)
    trainer = Trainer(
        max_epochs=ROUNDS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Federation(module, rule, LocalTraining(steps=1)), datamodule=data)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int)
    parser.add_argument("--algorithm", default="FedAvg")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if args.clients:
        one(args.clients, args.algorithm)
        return
    rows = []
    for clients in (100, 10_000, 100_000):
        row: dict[str, object] = {"Registered clients": clients}
        for algorithm in ("FedAvg", "SCAFFOLD"):
            command = [sys.executable, __file__, f"--clients={clients}", f"--algorithm={algorithm}"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            row[f"{algorithm}, MB"] = round(int(output.split()[-1]) / 1024)
        rows.append(row)
    print_table(rows, f"Peak memory, {COHORT} clients a round, {ROUNDS} rounds")


if __name__ == "__main__":
    main()
