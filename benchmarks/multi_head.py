"""Multi-headed distillation over eight clients with different classes: digits, or 12,000 pictures of CIFAR-10.

    python benchmarks/multi_head.py --data digits --seeds 0 1 2 --folder runs/multi_head

Trains every arm for every seed (what the CSV has is skipped, so an interrupted study goes on) and prints, as a Markdown
table, the mean over the clients and seeds of beta_priv (accuracy under the client's own label distribution) and of
beta_sh (under the uniform one), of the main head and of the last one, on the test part, after the last round. All arms
make the same number of steps on private data. Nothing is tuned on these figures.
"""

import argparse
import csv
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import nn

from lkd.callbacks import HeadReport
from lkd.datamodules import Digits, FederatedDataModule, ImageFolderData, PrimaryLabels
from lkd.federated import MHD, DecentralizedSGD, FedAvg, Federation, FedMD, Local, LocalTraining
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.topology import Chain, Complete, Ring, Topology
from lkd.metrics.tables import save_table, to_markdown
from lkd.modules import MultiHeadClassifier

CLIENTS, PUBLIC, SKEW, PRIMARY = 8, 0.2, 100.0, 2
SIZE = 16  # pixels to which CIFAR's pictures are brought
ROUNDS, STEPS = {"digits": 60, "cifar10": 60}, 25
BATCH = {"digits": 16, "cifar10": 32}
FIELDS = ("arm", "seed", "head", "beta_priv", "beta_sh", "megabytes", "cpu_seconds")


def backbone(data: str, width: int) -> nn.Module:
    """One hidden layer for digits, three convolutions for pictures; wide or narrow."""
    if data == "digits":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4 * width), nn.ReLU())
    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if before != 2 * width else []
    return nn.Sequential(*layers)


def client(data: str, heads: int, width: int) -> MultiHeadClassifier:
    """A client's module, with lkd's default optimizer: AdamW, lr .001."""
    example = [1, 8, 8] if data == "digits" else [3, SIZE, SIZE]
    return MultiHeadClassifier(
        backbone(data, width), num_classes=10, heads=heads, embedding=64, example=example
    )


def samples(data: str, root: str) -> LightningDataModule:
    """Pictures with a test part of their own."""
    if data == "digits":
        return Digits(batch_size=BATCH[data])
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return ImageFolderData(root, image_size=SIZE, mean=mean, std=std, padding=2, flip=0.5)


def mhd(topology: Topology) -> MHD:
    """With the paper's choice of targets; one of the neighbors' present checkpoints teaches in a step."""
    return MHD(topology, batch_size=32, teachers=1)


# algorithm, auxiliary heads, widths of the backbones
ARMS: dict[str, tuple[Callable[[], Algorithm], int, tuple[int, ...]]] = {
    "isolated": (Local, 0, (16,)),
    "FedMD": (lambda: FedMD(samples=800, batch_size=32, of="probabilities"), 0, (16,)),
    "D-PSGD, ring": (lambda: DecentralizedSGD(Ring()), 0, (16,)),
    "FedAvg": (FedAvg, 0, (16,)),
    "MHD, complete, embedding only": (lambda: mhd(Complete()), 0, (16,)),
    "MHD, complete, 1 head": (lambda: mhd(Complete()), 1, (16,)),
    "MHD, complete, 4 heads": (lambda: mhd(Complete()), 4, (16,)),
    "MHD, ring, 1 head": (lambda: mhd(Ring()), 1, (16,)),
    "MHD, ring, 4 heads": (lambda: mhd(Ring()), 4, (16,)),
    "MHD, chain, 1 head": (lambda: mhd(Chain()), 1, (16,)),
    "MHD, chain, 4 heads": (lambda: mhd(Chain()), 4, (16,)),
    "isolated, two backbones": (Local, 0, (16, 24)),
    "MHD, complete, 4 heads, two backbones": (lambda: mhd(Complete()), 4, (16, 24)),
}


def train(arm: str, seed: int, name: str, root: str, rounds: int) -> list[dict[str, object]]:
    """One run; a row for each head, means over the clients."""
    algorithm, heads, widths = ARMS[arm]
    seed_everything(seed, verbose=False)
    modules = [client(name, heads, width) for width in widths]
    federation = Federation(
        modules[0], algorithm(), LocalTraining(steps=STEPS), other_models=list(modules[1:]), seed=seed
    )
    pictures = samples(name, root)
    data = FederatedDataModule(
        pictures,
        PrimaryLabels(PRIMARY, SKEW),
        clients=CLIENTS,
        public=PUBLIC,
        batch_size=BATCH[name],
        seed=seed,
    )
    report = HeadReport(every=rounds, part="test")
    trainer = Trainer(
        max_epochs=rounds,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[report],
    )
    data.prepare_data()
    pictures.setup("test")
    started = time.process_time()
    trainer.fit(federation, data)
    seconds = time.process_time() - started
    traveled = (federation.bytes_up + federation.bytes_down) / 1e6
    rows: list[dict[str, object]] = []
    for head in range(heads + 1):
        here = [row for row in report.rows if row["head"] == head]
        mean = {name: statistics.fmean(row[name] for row in here) for name in ("beta_priv", "beta_sh")}
        rows.append(
            {"arm": arm, "seed": seed, "head": head, **mean, "megabytes": traveled, "cpu_seconds": seconds}
        )
    return rows


def table(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Mean and deviation over seeds, of the main head and of the last."""
    found: list[dict[str, object]] = []
    for arm in ARMS:
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        last = max(int(row["head"]) for row in mine)
        line: dict[str, object] = {"arm": arm}
        for title, head in (("main", 0), ("last", last)):
            for name in ("beta_priv", "beta_sh"):
                values = [float(row[name]) for row in mine if int(row["head"]) == head]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                line[f"{name} {title}"] = f"{statistics.fmean(values):.3f} ± {spread:.3f}"
        line["MB"] = f"{statistics.fmean(float(row['megabytes']) for row in mine):.1f}"
        line["seeds"] = str(len({row["seed"] for row in mine}))
        found.append(line)
    return found


def main() -> None:
    """Runs what is missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "cifar10"], default="digits")
    parser.add_argument("--root", default="data/cifar10_subset/cifar10_subset.tar")
    parser.add_argument("--folder", type=Path, default=Path("runs/multi_head"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rounds = arguments.rounds or ROUNDS[arguments.data]
    path = arguments.folder / f"{arguments.data}.csv"
    if not path.exists():
        path.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    for seed in arguments.seeds:
        for arm in arguments.arms:
            with path.open(encoding="utf-8", newline="") as file:
                done = {(row["arm"], row["seed"]) for row in csv.DictReader(file)}
            if (arm, str(seed)) in done:
                continue
            rows = train(arm, seed, arguments.data, arguments.root, rounds)
            with path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, FIELDS).writerows(rows)
            print(rows[0], rows[-1], flush=True)
    with path.open(encoding="utf-8", newline="") as file:
        result = table(list(csv.DictReader(file)))
    save_table(result, arguments.folder / f"{arguments.data}_table")
    print(to_markdown(result))


if __name__ == "__main__":
    main()
