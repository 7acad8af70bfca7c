"""What a codec saves and costs: bytes that clients send, and the accuracy that is reached, over seeds.

    python benchmarks/codecs.py

Digits, ten clients with few digits each (Dirichlet .3), an MLP 64-256-10, FedAvg with five local epochs. A run's bytes are those of all
replies. The last column is the round in which the accuracy of the uncoded run's last round, less one point, is reached.
"""

import argparse
import statistics
import sys

from costs import QUIET
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from lkd.datamodules import Digits, Dirichlet, FederatedDataModule
from lkd.federated import (
    Codec,
    Deflate,
    FedAvg,
    Federation,
    Half,
    Int8,
    LocalTraining,
    LowRank,
    TopK,
)
from lkd.metrics.tables import Row, print_table
from lkd.models import MLP
from lkd.modules import Classifier

CODECS: dict[str, Codec | None] = {
    "none": None,
    "Half()": Half(),
    "Int8()": Int8(),
    "Int8(error_feedback=False)": Int8(error_feedback=False),
    "Deflate(Int8())": Deflate(Int8()),
    "TopK(0.1)": TopK(0.1),
    "TopK(0.01)": TopK(0.01),
    "TopK(0.01, error_feedback=False)": TopK(0.01, error_feedback=False),
    "LowRank(4)": LowRank(4),
    "LowRank(1)": LowRank(1),
    "LowRank(1, error_feedback=False)": LowRank(1, error_feedback=False),
}


class Curve(Callback):
    """The accuracy after every round."""

    def __init__(self) -> None:
        self.accuracies = list[float]()

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Notes it."""
        if not trainer.sanity_checking:
            self.accuracies.append(float(trainer.callback_metrics["val/acc"]))


def run(codec: Codec | None, seed: int, rounds: int) -> tuple[list[float], int]:
    """The test accuracy after each round, and the bytes that clients have sent."""
    seed_everything(seed, verbose=False)
    model = Classifier(MLP(64, 10, hidden=[256]), num_classes=10)
    federation = Federation(model, FedAvg(), LocalTraining(epochs=5), codec=codec, seed=seed)
    data = FederatedDataModule(
        Digits(batch_size=16), Dirichlet(0.3), clients=10, seed=seed, client_fractions=(1.0, 0.0, 0.0)
    )
    curve = Curve()
    Trainer(max_epochs=rounds, callbacks=[curve], **{**QUIET, "limit_val_batches": 1.0}).fit(federation, data)
    return curve.accuracies, federation.bytes_up


def main(args: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args(args)
    found = {}
    for name, codec in CODECS.items():
        found[name] = [run(codec, seed, given.rounds) for seed in range(given.seeds)]
        print(name, [f"{accuracies[-1]:.4f}" for accuracies, _ in found[name]], file=sys.stderr, flush=True)
    plain = statistics.mean(up for _, up in found["none"])
    rows: list[Row] = []
    for name, runs in found.items():
        last = [accuracies[-1] for accuracies, _ in runs]
        reached = [
            next((r + 1 for r, a in enumerate(accuracies) if a >= whole[-1] - 0.01), None)
            for (accuracies, _), (whole, _) in zip(runs, found["none"], strict=True)
        ]
        up = statistics.mean(up for _, up in runs)
        spread = f" ± {statistics.stdev(last):.3f}" if len(last) > 1 else ""
        rows.append(
            {
                "codec": name,
                "MB up": f"{up / 1e6:.2f}",
                "of plain": f"{up / plain:.1%}",
                "accuracy": f"{statistics.mean(last):.3f}{spread}",
                "round within .01": ", ".join("never" if r is None else str(r) for r in reached),
            }
        )
    print_table(rows, f"{given.rounds} rounds, {given.seeds} seeds")


if __name__ == "__main__":
    main()
