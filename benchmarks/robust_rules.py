"""What robust rules keep of the accuracy: rules x attacks x how much the clients' data differ.

    python benchmarks/robust_rules.py      # seven minutes on one core

Ten clients share scikit-learn's digits, evenly or by Dirichlet, and four of them lie in every round: the opposite of what
they have learned, as long or three times as long, or noise three times as long. An MLP of 64 hidden units, 20 rounds of two
epochs; accuracy of the server's model on all test digits, mean over the seeds and the lowest of them. Nothing is tuned.
"""

import argparse
import itertools
import logging
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Trainer

from lkd.datamodules import IID, Digits, Dirichlet, FederatedDataModule
from lkd.federated import (
    Attack,
    Bucketing,
    CoordinateMedian,
    FedAvg,
    Federation,
    GeometricMedian,
    Krum,
    LocalTraining,
    NearestNeighborMixing,
    NormClipping,
    Rule,
    TrimmedMean,
)
from lkd.metrics.tables import print_table, save_table
from lkd.models import MLP
from lkd.modules import Classifier

CLIENTS = 10
RULES: dict[str, Callable[[int], Rule | None]] = {
    "mean": lambda liars: None,
    "NormClipping": lambda liars: NormClipping(),
    "CoordinateMedian": lambda liars: CoordinateMedian(),
    "TrimmedMean": lambda liars: TrimmedMean(liars / CLIENTS),
    "GeometricMedian": lambda liars: GeometricMedian(),
    "Multi-Krum": lambda liars: Krum(min(liars, 3), keep=CLIENTS - liars),
    "Bucketing, GeometricMedian": lambda liars: Bucketing(GeometricMedian()),
    "NearestNeighborMixing, CoordinateMedian": lambda liars: NearestNeighborMixing(CoordinateMedian(), liars),
    "NearestNeighborMixing, GeometricMedian": lambda liars: NearestNeighborMixing(GeometricMedian(), liars),
}
"""Each for a number of liars, which those that are told know. Krum needs more than twice that number and two: of ten, three."""
ATTACKS: dict[str, dict[str, Any] | None] = {
    "honest": None,
    "opposite": {"kind": "sign_flip", "scale": 1.0},
    "opposite x 3": {"kind": "sign_flip", "scale": 3.0},
    "noise x 3": {"kind": "noise", "scale": 3.0},
}
DATA: dict[str, Any] = {"iid": IID(), "Dirichlet 1": Dirichlet(1.0), "Dirichlet .3": Dirichlet(0.3)}


def accuracy(
    rule: Rule | None, attack: Attack | None, data: FederatedDataModule, rounds: int, seed: int
) -> float:
    """One run."""
    torch.manual_seed(seed)
    client = Classifier(MLP(64, 10, [64]), 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    federation = Federation(
        client, FedAvg(), LocalTraining(epochs=2), aggregator=rule, attack=attack, seed=seed
    )
    trainer = Trainer(
        max_epochs=rounds, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(federation, datamodule=data)
    x, y = cast(Any, data.data).datasets["test"].tensors
    with torch.no_grad():
        return float((federation(x).argmax(1) == y).float().mean())


def main() -> None:
    """Prints a table for each way to share the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--liars", type=int, default=4)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    for shared in args.data:
        parts = [
            FederatedDataModule(Digits(batch_size=32, seed=s), DATA[shared], clients=CLIENTS, seed=s)
            for s in range(args.seeds)
        ]
        found: dict[str, dict[str, list[float]]] = {
            rule: {name: [] for name in ATTACKS} for rule in args.rules
        }
        for seed, rule, (name, told) in itertools.product(range(args.seeds), args.rules, ATTACKS.items()):
            # who lies differs between seeds, and is drawn by them
            order = torch.randperm(CLIENTS, generator=torch.Generator().manual_seed(seed)).tolist()
            attack = None if told is None else Attack(order[: args.liars], seed=seed, **told)
            found[rule][name].append(
                accuracy(RULES[rule](args.liars), attack, parts[seed], args.rounds, seed)
            )
        table = [
            {
                "rule": rule,
                **{n: f"{statistics.mean(v):.3f} ({min(v):.3f})" for n, v in found[rule].items()},
            }
            for rule in args.rules
        ]
        print_table(
            table, f"{args.liars} of {CLIENTS} lie, {shared}: mean (lowest) accuracy of {args.seeds} seeds"
        )
        save_table(table, Path("runs/robust_rules") / f"{args.liars}_{shared.replace(' ', '_')}")


if __name__ == "__main__":
    main()
