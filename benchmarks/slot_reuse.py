"""Reuse of earlier answers on real parked cars, slot by slot: in `predict`, and in a cascade.

    python benchmarks/slot_reuse.py --folder runs/slot_reuse

PKLot's four days, 40 slots in 5 frames each, are cut into pictures of a slot. A small network for the device and a larger one for the server are trained
on two of the days and CNRPark's patches, and asked about the other two, both ways round. `predict --reuse` then runs as a user runs it, once for each
limit. The cascade puts the same cache before its gate: what is not reused and whose probability is below `SURE` goes up as WebP, and the
server's answer stands and is kept. A second table has CNRPark-EXT's labels alone: how many slots are in another state some time later.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from PIL import Image

from lkd.cli import main as command
from lkd.datamodules import ImageFolderData
from lkd.edge import Exported
from lkd.edge.export import export
from lkd.edge.offload import Payload
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.predictor import Predictor
from lkd.edge.predict.reuse.moments import moment, seconds
from lkd.edge.predict.timing import FrameTimes
from lkd.edge.reuse import ResultCache, answered_by
from lkd.metrics.tables import Row, to_markdown
from lkd.models import CIFARResNet
from lkd.modules import Classifier
from lkd.pictures import pixels
from lkd.slot_labels import read_patches
from lkd.slot_maps import read_spaces

SEQUENCES = ((0, 1), (2, 3))
CELLS, HOUR, SURE, EPOCHS = 8, 3600, 0.95, 20
LIMITS = [*((d, 12 * HOUR) for d in (4, 8, 16, 24, 32, 48)), (16, 600), (16, HOUR)]
NETWORKS = {"student": (32, [8, 8, 16, 32], 8), "server": (32, [16, 16, 32, 64], 8)}  # side, channels, depth
AGES = (0.5, 1.0, 2.0, 4.0)


def cut(data: Path, folder: Path) -> None:
    """Writes, for each pair of days, class folders to train and test on, and the slots of the tested days."""
    for number, tested in enumerate(SEQUENCES):
        fold, spaces = folder / f"fold{number}", defaultdict(dict)
        if fold.exists():
            continue
        for part, name in (("train", "busy"), ("train", "free"), ("test", "busy"), ("test", "free")):
            (fold / "data" / part / name).mkdir(parents=True)
        for patch in read_patches(data / "cnrpark_patches/LABELS/all.txt"):
            shutil.copy(
                data / "cnrpark_patches/PATCHES" / patch.path, fold / "data/train" / name_of(patch.label)
            )
        for sequence in range(4):
            root = data / f"pklot/sequence{sequence}"
            for path in sorted((root / "frames").glob("*.jpg")):
                frame = Image.fromarray(pixels(path, str(path)))
                for space in read_spaces(root / "bounding_boxes" / f"{path.stem}.xml"):
                    points = np.array(space.points)
                    left_top, right_bottom = (
                        points.min(0).clip(0).astype(int),
                        np.ceil(points.max(0)).astype(int),
                    )
                    crop = frame.crop((*left_top.tolist(), *right_bottom.tolist()))
                    part = "test" if sequence in tested else "train"
                    crop.save(fold / "data" / part / name_of(space.busy) / f"{space.name}_{path.stem}.png")
                    if part == "test":
                        spaces[space.name][path.stem] = crop, bool(space.busy)
        for slot, crops in spaces.items():
            (fold / "slots" / slot).mkdir(parents=True)
            for stem, (crop, _) in crops.items():
                crop.save(fold / "slots" / slot / f"{stem}.png")
        known = {
            f"{slot}/{stem}": busy for slot, crops in spaces.items() for stem, (_, busy) in crops.items()
        }
        (fold / "busy.json").write_text(json.dumps(known))


def name_of(busy: bool | int | None) -> str:
    """The class of a slot."""
    return "busy" if busy else "free"


def trained(fold: Path, name: str) -> Path:
    """The exported file of one of the two networks."""
    size, channels, depth = NETWORKS[name]
    if (found := fold / name / "student.onnx").is_file():
        return found
    seed_everything(0, verbose=False)
    data = ImageFolderData(
        str(fold / "data"), image_size=size, val=0.0, padding=size // 8, flip=0.5, batch_size=32
    )
    network = CIFARResNet(depth, classes=2, channels=channels)
    optimizer = partial(torch.optim.AdamW, lr=0.003, weight_decay=0.05)
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=EPOCHS)
    module = Classifier(network, num_classes=2, optimizer=optimizer, scheduler=schedule)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(max_epochs=EPOCHS, accelerator="cpu", **quiet)
    trainer.fit(module, data)
    trainer.save_checkpoint(fold / f"{name}.ckpt")
    return export(module, data, str(fold / f"{name}.ckpt"), str(fold / name))[0]


class Fold:
    """Two tested days: pictures of slots in the order of time, what is true, and what both networks say."""

    def __init__(self, fold: Path) -> None:
        self.folder = fold
        busy = json.loads((fold / "busy.json").read_text())
        self.paths = sorted((fold / "slots").rglob("*.png"), key=moment)
        self.busy = np.array([busy[f"{path.parent.name}/{path.stem}"] for path in self.paths])
        self.images = [pixels(path, str(path)) for path in self.paths]
        device, server = (trained(fold, name) for name in NETWORKS)
        self.student = device
        payload = Payload("webp", quality=70)
        local, sent = asked(device, self.images), [payload.sent(image) for image in self.images]
        self.doubted = local.max(1) < SURE
        self.nbytes = np.array([size for _, size in sent])
        remote = asked(server, [picture for picture, _ in sent])
        self.final = np.where(self.doubted, remote[:, 0], local[:, 0]) > 0.5  # busy comes first

    def predicted(self, distance: float, ttl_s: float) -> tuple[np.ndarray, dict[str, Any]]:
        """What `predict --reuse` says of each picture, and its report of the reuse."""
        folder = self.folder / "predict" / f"{distance:g}_{ttl_s:g}"
        shutil.rmtree(folder, ignore_errors=True)
        reuse = f"{{distance: {distance}, ttl_s: {ttl_s}, cells: {CELLS}}}"
        command(["predict", str(self.folder / "slots"), "--model", str(self.student), "--reuse", reuse, "--audit", "0", "--pictures", "none",
                 "--folder", str(folder)])  # fmt: skip
        with (folder / "predictions.csv").open(newline="") as file:
            said = {row["source"]: row["class"] == "busy" for row in csv.DictReader(file)}
        return np.array([said[str(path)] for path in self.paths]), json.loads(
            (folder / "report.json").read_text()
        )["reuse"]

    def by(self, distance: float, ttl_s: float) -> np.ndarray:
        """The picture whose answer each one is given."""
        cache: ResultCache[int] = ResultCache(distance, ttl_s, CELLS)
        pictures = [(*moment(path), image) for path, image in zip(self.paths, self.images, strict=True)]
        return np.array(answered_by(cache, pictures))


def asked(file: Path, images: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities (N, 2) of an exported network."""
    predictor = Predictor(Exported(file), file.parent.name)
    clock = FrameTimes(predictor.parts)
    return np.array(
        [predictor(Frame("", n, None, image), clock)["probabilities"] for n, image in enumerate(images)]
    )


def rows(folds: Sequence[Fold]) -> Iterator[Row]:
    """A row a limit, over both folds; the first one is without reuse."""
    busy, fresh = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("busy", "final"))
    doubted, nbytes = (
        np.concatenate([getattr(fold, name) for fold in folds]) for name in ("doubted", "nbytes")
    )
    plain = np.concatenate([fold.predicted(0.0, 1e-3)[0] for fold in folds])  # nothing is young enough
    sent = (doubted * nbytes).sum() / len(busy)
    yield {
        "distance": "no reuse",
        **dict.fromkeys(("ttl", "reused", "CPU time saved", "of another state")),
        "predict: accuracy": f"{(plain == busy).mean():.4f}",
        "cascade: requests": f"{doubted.mean():.1%}",
        "bytes a look": f"{sent:.0f}",
        "cascade: accuracy": f"{(fresh == busy).mean():.4f}",
    }
    for distance, ttl_s in LIMITS:
        said, reports = zip(*(fold.predicted(distance, ttl_s) for fold in folds), strict=True)
        by, first = [], 0
        for fold in folds:
            by.append(fold.by(distance, ttl_s) + first)
            first += len(fold.paths)
        source = np.concatenate(by)
        computed = source == np.arange(len(source))
        counts = {name: sum(report[name] for report in reports) for name in ("reused", "frames", "saved_s")}
        if counts["reused"] != (~computed).sum():
            raise RuntimeError(
                f"predict reused {counts['reused']} answers, and the cascade {(~computed).sum()}."
            )
        whole = sum(report["frames"] * report["computed_ms"] for report in reports) / 1000
        yield {
            "distance": distance,
            "ttl": f"{ttl_s / HOUR:.2g} h",
            "reused": f"{counts['reused'] / counts['frames']:.1%}",
            "CPU time saved": f"{counts['saved_s'] / whole:.0%}",
            "of another state": int((busy[source] != busy).sum()),
            "predict: accuracy": f"{(np.concatenate(said) == busy).mean():.4f}",
            "cascade: requests": f"{(doubted & computed).mean():.1%}",
            "bytes a look": f"{(doubted & computed) @ nbytes / len(busy):.0f}",
            "cascade: accuracy": f"{(fresh[source] == busy).mean():.4f}",
        }
    for report in reports:
        print(f"a look of {report['look_ms']:.2f} ms, an answer of {report['computed_ms']:.2f} ms")


def states(path: Path) -> Iterator[Row]:
    """How many of CNRPark-EXT's states differ from the same slot's some hours before, on the same day."""
    slots: dict[tuple[str, int, str], dict[float, int]] = defaultdict(dict)
    for patch in read_patches(path):
        when = seconds(patch.time)
        if when is not None:
            slots[patch.camera, patch.slot, patch.time[:10]][when] = patch.label
    for hours in AGES:
        pairs = [(now, states[near]) for states in slots.values() for when, now in states.items()
                 for near in states if abs(when - near - hours * HOUR) <= 300]  # fmt: skip
        differ = np.mean([now != before for now, before in pairs]) if pairs else None
        yield {"hours": hours, "pairs": len(pairs), "in another state": f"{differ:.1%}" if pairs else None}


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/slot_reuse"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    cut(options.data, options.folder)
    table = list(rows([Fold(options.folder / f"fold{number}") for number in range(len(SEQUENCES))]))
    print(f"\n{to_markdown(table)}")
    print(f"\n{to_markdown(list(states(options.data / 'cnrpark_ext/all.reconstructed.txt.gz')))}")


if __name__ == "__main__":
    main()
