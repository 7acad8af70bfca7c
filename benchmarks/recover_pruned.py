"""Does distillation from the dense student help a pruned one to recover? By labels, by the parent, by both; several seeds.

    python benchmarks/recover_pruned.py                          digits, a few minutes
    python benchmarks/recover_pruned.py --data traffic --epochs 36 --ckpt runs/traffic_oracle/last.ckpt
    python benchmarks/recover_pruned.py --data parking --epochs 12 --ckpt runs/parking_oracle/last.ckpt

All ways start from the same pruned student of a seed, and train as long; the dense student trains on as long, too, for that is the
fair baseline. Each run's result is kept in `--folder` and not run again. A way has a gain over labels alone where the mean difference
over the seeds is more than its spread (the standard deviation of the differences); else "no gain" is printed.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything

from lkd.callbacks import BoxDistillation, Distillation
from lkd.datamodules import Digits
from lkd.edge.compress import Job, Limits, Parent, Prune, Recover, Stage, student
from lkd.losses import KD
from lkd.metrics.tables import print_table
from lkd.modules import Classifier
from lkd.verb import Verb

CONFIGS = {"parking": "configs/parking/oracle.yaml", "traffic": "configs/traffic/oracle.yaml"}
WAYS = ("labels", "parent", "both")


def distillation(way: str, boxes: bool) -> list[Distillation]:
    """The callbacks of a way."""
    if way == "labels":
        return []
    alpha = 0.5 if way == "both" else 0.0
    if boxes:
        return [BoxDistillation(Parent(), alpha=alpha, hard=1.0, dense=1.0, score_threshold=0.25)]
    return [Distillation(Parent(), [KD(temperature=4.0, weight=1 - alpha)], alpha=alpha)]


def subject(name: str, seed: int, epochs: int) -> tuple[LightningModule, LightningDataModule]:
    """A module and its data; labels are served, for two of the ways need them."""
    if name == "digits":
        torch.manual_seed(seed)
        adam = partial(torch.optim.AdamW, lr=0.002)
        return Classifier("test_resnet", in_channels=1, optimizer=adam), Digits(batch_size=64)
    args = [
        "--config",
        CONFIGS[name],
        "--data.init_args.unlabeled=false",
        f"--seed_everything={seed}",
        f"--data.init_args.seed={seed}",  # of views and order, which the global seed does not reach
        "--data.init_args.teacher_size=null",  # nobody here sees more than the student
        f"--model.scheduler.init_args.T_max={epochs}",
    ]  # the rate falls over the epochs that there are
    cli = Verb.parsed("recover_pruned", __doc__, args)
    return cli.make_model(), cli.datamodule


def trainer(folder: Path, **options: Any) -> Trainer:
    """A quiet one."""
    quiet = {
        "logger": False,
        "enable_model_summary": False,
        "gradient_clip_val": 10.0,
        "enable_progress_bar": False,
    }
    return Trainer(default_root_dir=folder, **{**quiet, **options})


def measured(module: LightningModule, data: LightningDataModule, folder: Path) -> float:
    """The accuracy, or mAP50-95, on the test data."""
    logged = trainer(folder).test(module, datamodule=data, verbose=False)[0]
    return float(logged.get("test/acc", logged.get("test/map", float("nan"))))


def run(args: argparse.Namespace, seed: int) -> dict[str, float]:
    """The metric of the dense student, the pruned one, and what each way makes of it."""
    # runs of other settings have their own folder: a recovery would go on from what it finds
    name = f"{args.data}_{args.macs:g}_{args.epochs}{'_' + Path(args.ckpt).stem if args.ckpt else ''}"
    folder = Path(args.folder, name, f"seed{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "result.json"
    found: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}

    def note(name: str, value: float) -> None:
        found[name] = value
        kept.write_text(json.dumps(found))

    module, data = subject(args.data, seed, args.epochs)
    seed_everything(seed, verbose=False)
    checkpoint = Path(args.ckpt) if args.ckpt else folder / "dense.ckpt"
    if not args.ckpt and "dense" not in found:
        fit = trainer(folder, max_epochs=args.epochs)
        fit.fit(module, datamodule=data)
        fit.save_checkpoint(checkpoint)
    parent = Stage("parent", folder, checkpoint)

    def job(name: str) -> Job:
        place = folder / name
        place.mkdir(exist_ok=True)
        # `dense` is what the command measures files by, which no step here asks for
        dense: Any = None
        return Job(module, data, lambda **o: trainer(place, **o), seed, Limits(), parent, name, place, dense)

    if "dense" not in found:
        note("dense", measured(student(module, checkpoint), data, folder))
    pruned = Stage("pruned", folder / "pruned", folder / "pruned" / "pruned.ckpt")
    if "pruned" not in found:
        pruned = Prune(macs=args.macs).run(parent, job("pruned"))
        assert pruned.checkpoint is not None
        note("pruned", measured(student(module, pruned.checkpoint), data, folder))
    ways = {"dense, trained on": (parent, "labels"), **{way: (pruned, way) for way in WAYS}}
    for name, (start, way) in ways.items():
        if name not in found:
            made = Recover(args.epochs, distillation(way, args.data != "digits")).run(
                start, job(name.replace(", ", "_"))
            )
            assert made.checkpoint is not None
            note(name, measured(student(module, made.checkpoint), data, folder))
    return found


def verdict(results: list[dict[str, float]], way: str) -> str:
    """What a way gains over labels alone, if that is more than its spread."""
    gains = [one[way] - one["labels"] for one in results]
    mean, spread = statistics.mean(gains), statistics.stdev(gains) if len(gains) > 1 else float("inf")
    word = "a gain" if mean > spread else "worse" if mean < -spread else "no gain"
    return f"{mean:+.4f} ± {spread:.4f}: {word}"


def main() -> None:
    """Runs what is missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", *CONFIGS], default="digits")
    parser.add_argument("--macs", type=float, default=0.4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ckpt", help="Of the dense student; for digits it is trained here, by the seed.")
    parser.add_argument("--folder", default="runs/recover_pruned")
    args = parser.parse_args()
    if args.data != "digits" and not args.ckpt:
        parser.error(f"--data {args.data} needs --ckpt, the student of {CONFIGS[args.data]}.")
    results = [run(args, seed) for seed in range(args.seeds)]
    rows = [
        {
            "student": name,
            "mean": f"{statistics.mean(one[name] for one in results):.4f}",
            "each seed": " ".join(f"{one[name]:.4f}" for one in results),
            "over labels": verdict(results, name) if name in ("parent", "both") else "",
        }
        for name in ("dense", "dense, trained on", "pruned", *WAYS)
    ]
    print_table(
        rows,
        f"{args.data}: {args.macs:.0%} of the multiply-accumulates, {args.epochs} epochs, {args.seeds} seeds",
    )


if __name__ == "__main__":
    main()
