"""A round of a thousand clients out of a million registered ones, against the same round out of a thousand.

    python benchmarks/million_clients.py

Each client has two samples and makes one step of FedAvg. Every run is a process of its own, and the two take turns. Time is that from
round to round (drawing the cohort, loading, training, sums), in CPU seconds of one thread, the median of 12 rounds after two; the table
has the median over the runs, and the ratio is the median over pairs of neighbors. Memory is the process' peak.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.metrics.tables import Row, print_table
from lkd.modules import Classifier

COHORT, FIRST, ROUNDS = 1000, 2, 12


class Flat(LightningDataModule):
    """Two samples for each client.

    Args:
        clients: Number of clients.
    """

    def __init__(self, clients: int) -> None:
        super().__init__()
        self.number = 2 * clients

    def setup(self, stage: str | None = None) -> None:
        """Zeros."""
        self.data = TensorDataset(torch.zeros(self.number, 8), torch.zeros(self.number, dtype=torch.int64))

    def train_dataloader(self) -> DataLoader:
        """Batches of two."""
        return DataLoader(self.data, batch_size=2)


class Clock(Callback):
    """CPU seconds from the start of a round to the start of the next."""

    def __init__(self) -> None:
        self.at = list[float]()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: object, index: int
    ) -> None:
        """Notes when a round begins."""
        self.at.append(time.process_time())


def one(clients: int) -> None:
    """Runs, and prints seconds a round and megabytes."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    network = nn.Sequential(nn.Linear(8, 1000), nn.Linear(1000, 10))
    module = Classifier(network, 10, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    clock = Clock()
    trainer = Trainer(
        max_epochs=FIRST + ROUNDS + 1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
    )  # fmt: skip
    data = FederatedDataModule(Flat(clients), IID(), clients=clients, cohort=COHORT)
    trainer.fit(Federation(module, FedAvg(), LocalTraining(steps=1)), datamodule=data)
    rounds = [after - before for before, after in zip(clock.at[FIRST:-1], clock.at[FIRST + 1 :], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(rounds), "megabytes": peak}))


def main(args: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, help="Runs this number alone, in this process.")
    parser.add_argument("--runs", type=int, default=5)
    said = parser.parse_args(args)
    if said.clients:
        one(said.clients)
        return
    found: dict[int, list[dict[str, float]]] = {1000: [], 1_000_000: []}
    for _ in range(said.runs):
        for clients, runs in found.items():
            command = [sys.executable, __file__, f"--clients={clients}"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append(json.loads(output.splitlines()[-1]))
            print(clients, runs[-1], file=sys.stderr, flush=True)
    few, many = found.values()
    ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(few, many, strict=True))
    rows: list[Row] = []
    for (clients, runs), times in zip(found.items(), (1.0, ratio), strict=True):
        row: Row = {"Registered": f"{clients:,}", "A round": f"{COHORT:,}"}
        row |= {
            "CPU s a round": f"{statistics.median(run['seconds'] for run in runs):.3f}",
            "Ratio": f"{times:.3f}",
        }
        rows.append(row | {"Peak memory, MB": f"{max(run['megabytes'] for run in runs):.0f}"})
    print_table(rows, f"FedAvg, one step each, {said.runs} runs by turns")


if __name__ == "__main__":
    main()
