"""What client-level differential privacy costs: accuracy over epsilon, by noise, over seeds.

    python benchmarks/privacy.py

Digits, 100 clients of which each takes part in a round with chance .3, softmax regression of 650 weights, four local steps of rate .5, 30 rounds of
DP-FedAvg with changes of length .5 at most. Prints the test accuracy and epsilon after the last round, and draws accuracy (of the
validation data) over epsilon, round by round: docs/pictures/privacy.png.
"""

import argparse
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from costs import QUIET
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from lkd.datamodules import IID, Digits, Dirichlet, FederatedDataModule, Partition, PoissonSampler
from lkd.federated import ClientDP, FedAvg, Federation, LocalTraining
from lkd.metrics.tables import Row, print_table
from lkd.models import MLP
from lkd.modules import Classifier

DELTA = 1e-3
"""Below one over the number of clients."""
NOISES = (None, 0.0, 0.7, 1.0, 2.0, 4.0, 8.0)
"""None: neither clipping nor noise."""
PARTITIONS: dict[str, Partition] = {"equal": IID(), "Dirichlet .3": Dirichlet(0.3)}


class Curve(Callback):
    """Epsilon and accuracy after every round."""

    def __init__(self) -> None:
        self.points = list[tuple[float, float]]()

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Notes them."""
        assert isinstance(module, Federation)
        if not trainer.sanity_checking and module.budget is not None:
            self.points.append((module.budget.ledger.epsilon(), float(trainer.callback_metrics["val/acc"])))


def run(noise: float | None, partition: Partition, seed: int, rounds: int) -> tuple[float, float, Curve]:
    """The test accuracy and epsilon after the last round, and the curve."""
    seed_everything(seed, verbose=False)
    model = Classifier(MLP(64, 10, hidden=[]), 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.5))
    privacy = None if noise is None else ClientDP(clip=0.5, noise_multiplier=noise, delta=DELTA)
    algorithm, local = FedAvg(weighting="uniform"), LocalTraining(steps=4)
    federation = Federation(model, algorithm, local, privacy=privacy, seed=seed)
    data = FederatedDataModule(
        Digits(batch_size=8), partition, clients=100, cohort=PoissonSampler(0.3), seed=seed
    )
    curve = Curve()
    trainer = Trainer(max_epochs=rounds, callbacks=[curve], **{**QUIET, "limit_val_batches": 1.0})
    trainer.fit(federation, data)
    accuracy = trainer.test(federation, data, verbose=False)[0]["test/acc"]
    return accuracy, 0.0 if federation.budget is None else federation.budget.ledger.epsilon(), curve


def main(args: list[str] | None = None) -> None:
    """Prints the table and draws the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/privacy.png"))
    given = parser.parse_args(args)
    rows: list[Row] = []
    figure = plt.figure(figsize=(7, 4))
    for noise in NOISES:
        row: Row = {"noise_multiplier": "no clipping" if noise is None else noise}
        for name, partition in PARTITIONS.items():
            found = [run(noise, partition, seed, given.rounds) for seed in range(given.seeds)]
            accuracies = [accuracy for accuracy, _, _ in found]
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
            row["epsilon"] = "" if noise is None else f"{found[0][1]:.2f}"
            row[name] = f"{statistics.mean(accuracies):.3f} ± {spread:.3f}"
            if noise and name == "equal":
                epsilons = [epsilon for epsilon, _ in found[0][2].points]
                curves = zip(*([acc for _, acc in curve.points] for _, _, curve in found), strict=True)
                plt.plot(epsilons, list(map(statistics.mean, curves)), label=f"noise_multiplier={noise:g}")
        print(row, flush=True)
        rows.append(row)
    plt.xscale("log")
    plt.xlabel(f"epsilon at delta={DELTA:g}")
    plt.ylabel("accuracy")
    plt.legend(fontsize=8)
    figure.tight_layout()
    given.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.picture, dpi=110)
    print_table(rows, f"digits, 100 clients, {given.seeds} seeds")


if __name__ == "__main__":
    main()
