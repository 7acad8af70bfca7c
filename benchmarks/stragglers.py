"""FedProx's figure: Synthetic(1, 1) with 90 % stragglers, whose work is dropped, kept, or kept near the server's weights.

    python benchmarks/stragglers.py --rounds 200

Settings of Li et al. 2020 (arXiv:1812.06127, Figure 1): softmax regression, 10 of 30 clients a round, 20 local epochs of
batches of 10, rate .01. Prints the loss over all training data and the test accuracy of the server's weights at every
quarter, with the range of the loss over the second half, and writes docs/pictures/stragglers.png.
"""

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lkd.datamodules import FederatedDataModule, Natural, Synthetic
from lkd.federated import FedAvg, Federation, FedProx, LocalTraining, SystemHeterogeneity
from lkd.metrics.tables import print_table, save_table
from lkd.modules import Classifier

ROWS: dict[str, tuple[Any, SystemHeterogeneity | None]] = {
    "FedAvg, no stragglers": (FedAvg(), None),
    "FedProx mu=1, no stragglers": (FedProx(mu=1.0), None),
    "FedAvg, 90 % dropped": (FedAvg(), SystemHeterogeneity(straggler_share=0.9, stragglers="drop")),
    "FedAvg, 90 %, partial work kept": (FedAvg(), SystemHeterogeneity(straggler_share=0.9)),
    "FedProx mu=1, 90 %, partial work kept": (FedProx(mu=1.0), SystemHeterogeneity(straggler_share=0.9)),
}


class Curve(Callback):
    """Loss over all clients' training data and accuracy on all test data, after every round."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the server's weights."""
        sets = cast(Any, trainer).datamodule.data.datasets
        (x, y), (test_x, test_y) = sets["train"].tensors, sets["test"].tensors
        self.losses.append(float(F.cross_entropy(pl_module(x), y)))
        self.accuracies.append(float((pl_module(test_x).argmax(1) == test_y).float().mean()))


def run(algorithm: Any, heterogeneity: SystemHeterogeneity | None, rounds: int, seed: int) -> Curve:
    """One row."""
    torch.manual_seed(seed)
    net = nn.Linear(60, 10)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    client = Classifier(net, 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.01))
    federation = Federation(
        client, algorithm, LocalTraining(epochs=20), heterogeneity=heterogeneity, seed=seed
    )
    inner = Synthetic(1.0, 1.0, seed=seed)
    data = FederatedDataModule(inner, Natural("client"), cohort=10, seed=seed)
    curve = Curve()
    trainer = Trainer(
        max_epochs=rounds, accelerator="cpu", logger=False, callbacks=[curve], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    inner.setup("test")
    trainer.fit(federation, datamodule=data)
    return curve


def main() -> None:
    """Prints the table and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/stragglers.png"))
    parser.add_argument("--rows", type=int, nargs="+", default=list(range(1, len(ROWS) + 1)))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    table, figure = [], plt.figure(figsize=(7, 4))
    for name in [list(ROWS)[number - 1] for number in args.rows]:
        algorithm, devices = ROWS[name]
        curve = run(algorithm, devices, args.rounds, args.seed)
        row: dict[str, Any] = {"Clients": name}
        for quarter in (1, 2, 3, 4):
            at = args.rounds * quarter // 4
            row[f"round {at}"] = f"{curve.losses[at - 1]:.3f} / {curve.accuracies[at - 1]:.3f}"
        half = curve.losses[args.rounds // 2 :]
        row["loss, second half"] = f"{min(half):.3f} to {max(half):.3f}"
        table.append(row)
        print(row, flush=True)
        plt.plot(range(1, args.rounds + 1), curve.losses, label=name, linewidth=1)
    plt.xlabel("round")
    plt.ylabel("training loss")
    plt.ylim(0, 2.5)
    plt.legend(fontsize=8)
    figure.tight_layout()
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.picture, dpi=110)
    save_table(table, Path("runs/stragglers"))
    print_table(table, "Synthetic(1, 1): training loss / test accuracy")


if __name__ == "__main__":
    main()
