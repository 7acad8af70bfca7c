"""Ranks distillation losses on 12,000 pictures of CIFAR-10: one small teacher, one smaller student, one budget.

    python benchmarks/rank_losses.py --seeds 0 1 2 --folder runs/rank_losses

Trains the teacher, then the student once for every loss and seed (what the CSV has is skipped, so an interrupted
study goes on), and prints the accuracy on the held-out test part after the last epoch, mean and deviation, as a
Markdown table. All runs of a seed start from the same weights and see the same views in the same order. The weights
of the losses are those of the papers or of the authors' code, mostly for CIFAR-100, once and for all. Learning rate
and gradient clipping, one for all, were looked at on a share of the training pictures; the test part selects nothing.
"""

import argparse
import csv
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from lkd import losses
from lkd.callbacks import Distillation, WeightRamp
from lkd.datamodules import ImageFolderData
from lkd.losses.simkd import ReusedClassifier
from lkd.metrics.tables import save_table, to_markdown
from lkd.models import CIFARResNet
from lkd.modules import Classifier
from lkd.teachers import Teacher

SIZE, BATCH = 16, 64  # pixels; samples
TEACHER = {"depth": 14, "channels": (32, 32, 64, 128)}
STUDENT = {"depth": 8, "channels": (16, 16, 32, 64)}
CLIP = 5.0  # norm of the gradient: some weights that suit 240 epochs let a run of a few diverge
TEACHER_SEED = 1000
NONE = "no distillation"


def at(*layers: str) -> dict[str, Any]:
    """The same layers in student and teacher."""
    names = [f"network.{layer}" for layer in layers]
    return dict.fromkeys(("student_layer", "teacher_layer"), names if len(names) > 1 else names[0])


STAGES, LAST, POOL = at("layer1", "layer2", "layer3"), at("layer3"), at("pool")

# alpha, the weight of the labels; the term, of which every run makes its own. Where authors sum over three stages, the
# weight is three times theirs, as terms take the mean.
LOSSES: dict[str, tuple[float, Callable[[], losses.Term]]] = {
    "KD": (0.1, lambda: losses.KD(4.0, weight=0.9)),
    "logit matching": (0.1, lambda: losses.LogitMatching(weight=0.9)),
    "KD, standardized": (0.1, lambda: losses.Standardized(losses.KD(2.0, weight=9.0))),
    "JS": (0.1, lambda: losses.Dissimilarity("js", 4.0, weight=0.9)),
    "DKD": (1.0, lambda: losses.DKD(4.0, alpha=1.0, beta=8.0)),
    "DIST": (1.0, lambda: losses.DIST(4.0, beta=2.0, gamma=2.0)),
    "NKD": (1.0, lambda: losses.NKD(1.0, gamma=1.5)),
    "FitNets": (1.0, lambda: losses.FitNets(weight=100.0, **at("layer2"))),
    "AT": (1.0, lambda: losses.AttentionTransfer(weight=3000.0, **STAGES)),
    "NST": (1.0, lambda: losses.NST(weight=150.0, **STAGES)),
    "VID": (1.0, lambda: losses.VID(weight=3.0, **STAGES)),
    "ReviewKD": (1.0, lambda: losses.ReviewKD(weight=20.0, **at("layer1", "layer2", "layer3", "pool"))),
    "SimKD": (0.0, lambda: losses.SimKD(**LAST)),
    "CWD": (1.0, lambda: losses.CWD(tau=1.0, weight=10.0, **LAST)),
    "MGD": (1.0, lambda: losses.MGD(ratio=0.15, masked="channels", weight=7e-5, **LAST)),
    "PKD": (1.0, lambda: losses.PKD(weight=10.0, **LAST)),
    "CRD (queue)": (1.0, lambda: losses.QueueCRD(weight=0.8, queue=4096, **POOL)),
    "RKD": (1.0, lambda: losses.RKD(**POOL)),
    "SP": (1.0, lambda: losses.SimilarityPreserving(weight=3000.0, **LAST)),
    "PKT": (1.0, lambda: losses.PKT(weight=470.0, **POOL)),
    "CC": (1.0, lambda: losses.CorrelationCongruence(weight=100.0, **POOL)),
}
RAMPED = ("DKD", "ReviewKD")  # over the first twelfth of the run: their recipes have 20 of 240 epochs
FIELDS = ("loss", "seed", "accuracy", "epochs", "cpu_seconds")


class KeepAdapters(Callback):
    """Holds on to what the distillation trained beside the student."""

    adapters: nn.ModuleDict | None = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the distillation takes them away."""
        self.adapters = getattr(pl_module, "distillation_adapters", None)


def load(root: str) -> ImageFolderData:
    """The pictures, decoded and made smaller once for all runs."""
    statistics_ = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
    data = ImageFolderData(
        root, image_size=SIZE, val=0.0, padding=2, flip=0.5, batch_size=BATCH, **statistics_
    )
    data.setup()
    return data


def reseed(data: ImageFolderData, seed: int) -> ImageFolderData:
    """The same pictures in another order, with other views."""
    data.seed = data.datasets["train"].seed = seed
    return data


def classifier(shape: dict[str, Any], classes: int, seed: int, epochs: int, lr: float) -> Classifier:
    """A network of that shape, with SGD as in the recipes for CIFAR and a cosine schedule."""
    seed_everything(seed, verbose=False)
    network = CIFARResNet(classes=classes, **shape).to(memory_format=torch.channels_last)
    return Classifier(
        network,
        num_classes=classes,
        optimizer=lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9, weight_decay=5e-4),
        scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=epochs),
    )


def fit(module: Classifier, data: ImageFolderData, epochs: int, callbacks: list[Callback]) -> None:
    """Trains for the epochs."""
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=CLIP,
    )
    trainer.fit(module, data.train_dataloader())


@torch.no_grad()
def accuracy(network: nn.Module, data: ImageFolderData) -> float:
    """Share of the test pictures that are classified rightly."""
    network.eval()
    hits = [network(x).argmax(1) == y for x, y in data.test_dataloader()]
    return torch.cat(hits).float().mean().item()


def teacher(data: ImageFolderData, path: Path, epochs: int, lr: float) -> Classifier:
    """The trained teacher, from the file if it is there."""
    module = classifier(TEACHER, len(data.classes), TEACHER_SEED, epochs, lr)
    if path.is_file():
        module.load_state_dict(torch.load(path, weights_only=True))
    else:
        fit(module, reseed(data, TEACHER_SEED), epochs, [])
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(module.state_dict(), path)
    return module.eval()


def run(name: str, seed: int, source: Classifier, data: ImageFolderData, epochs: int, lr: float) -> float:
    """Trains one student and tests it; nan if its loss did not stay finite."""
    student, callbacks, keep = (
        classifier(STUDENT, len(data.classes), seed, epochs, lr),
        list[Callback](),
        KeepAdapters(),
    )
    if name != NONE:
        alpha, term = LOSSES[name]
        callbacks = [Distillation(Teacher(source), [term()], alpha=alpha), keep]
    if name in RAMPED:
        callbacks.append(WeightRamp(steps=max(1, epochs * len(data.train_dataloader()) // 12)))
    try:
        fit(student, reseed(data, seed), epochs, callbacks)
    except FloatingPointError:  # a weight that is too large for so short a run is a result, too
        return math.nan
    if name != "SimKD":
        return accuracy(student, data)
    assert keep.adapters is not None  # the student that SimKD deploys has the teacher's classifier
    maps = create_feature_extractor(student.network.eval(), {"layer3": "maps"})
    return accuracy(ReusedClassifier(maps, keep.adapters["simkd"], source.network.fc), data)


def summary(rows: list[dict[str, str]], source: float) -> list[dict[str, object]]:
    """One row a loss, the best mean first: accuracy in %, its deviation, and the gain over no distillation by seed."""
    by_loss: dict[str, dict[str, float]] = {}
    for row in rows:
        by_loss.setdefault(row["loss"], {})[row["seed"]] = 100 * float(row["accuracy"])
    base = by_loss.get(NONE, {})
    table: list[dict[str, object]] = []
    for name, found in by_loss.items():
        values = [value for value in found.values() if not math.isnan(value)]
        gains = [
            value - base[seed] for seed, value in found.items() if seed in base and not math.isnan(value)
        ]
        table.append(
            {
                "Loss": name,
                "seeds": len(values),
                "accuracy": statistics.mean(values) if values else 0.0,
                "shown": _spread(values) if values else "diverged",
                "gain": _spread(gains, "+") if gains and name != NONE else "",
            }
        )
    table.sort(key=lambda row: -float(row["accuracy"]))
    for row in table:
        row["accuracy"] = row.pop("shown")
    first = {"Loss": "(the teacher)", "seeds": 1, "accuracy": f"{100 * source:.1f}", "gain": ""}
    return [first, *table]


def _spread(values: list[float], sign: str = "") -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{spread}"


def main(args: list[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--losses", nargs="+", choices=[NONE, *LOSSES], default=[NONE, *LOSSES])
    parser.add_argument("--root", default="data/cifar10_subset/cifar10_subset.tar")
    parser.add_argument("--folder", type=Path, default=Path("runs/rank_losses"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--teacher_epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=0.05)
    given = parser.parse_args(args)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    data = load(given.root)
    source = teacher(data, given.folder / "teacher.pt", given.teacher_epochs, given.lr)
    path = given.folder / "runs.csv"
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    done = {(row["loss"], row["seed"]) for row in rows}
    for seed in given.seeds:  # a whole ranking after every seed
        for name in given.losses:
            if (name, str(seed)) in done:
                continue
            start = time.process_time()
            found = run(name, seed, source, data, given.epochs, given.lr)
            values = (
                name,
                str(seed),
                f"{found:.4f}",
                str(given.epochs),
                f"{time.process_time() - start:.1f}",
            )
            rows.append(dict(zip(FIELDS, values, strict=True)))
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(rows[-1])
            print(*values, flush=True)
    table = summary(rows, accuracy(source, data))
    save_table(table, given.folder / "table")
    print(to_markdown(table))


if __name__ == "__main__":
    main()
