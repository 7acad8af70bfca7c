"""Thermal students of a visible teacher: what frozen batch statistics cost, on the rendered car parks.

    python benchmarks/thermal_batchnorm.py --weights data/weights

COCO's yolo11n sees the visible frames at 640 px; COCO's yolov8n learns its boxes on the thermal frames at 256 px, without
labels, with its batch statistics frozen or trained, for 2, 6 and 20 epochs (30, 90 and 300 steps). Six rendered cameras, the
first half of each one's frames in time to learn from, the other half the test. Prints, as a Markdown table, mAP50 and mAP50-95
of the last weights, mean and deviation over the seeds, and those of teacher and start. The frames are drawn first.
"""

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer, seed_everything

from lkd.callbacks import BoxDistillation, WarmUp
from lkd.datamodules import ParkingWorld, RGBThermalFolder
from lkd.metrics.tables import to_markdown
from lkd.modules import Detector
from lkd.teachers import Teacher

CARS = {2: 0, 5: 0, 7: 0}  # COCO's car, bus and truck
SIZE, BATCH = (400, 300), 8
PLACES = "{weather}/{day}/{camera}/{frame}"


def pairs(
    root: Path, image: Literal["visible", "thermal"], seed: int = 0, size: int = 256
) -> RGBThermalFolder:
    """The frames of the world as pairs."""
    return RGBThermalFolder(
        str(root),
        visible=f"FULL_IMAGE_{SIZE[0]}x{SIZE[1]}/{PLACES}.jpg",
        thermal=f"THERMAL_{SIZE[0]}x{SIZE[1]}/{PLACES}.png",
        labels=f"boxes/{PLACES}.txt",
        camera="{camera}",
        time="{day}{frame}",
        classes={"car": 0},
        image=image,
        teacher_image="visible",
        image_size=size,
        teacher_size=640,
        fractions=(0.5, 0.0, 0.5),
        crop=(0.7, 1.0),
        batch_size=BATCH,
        one_camera_per_batch=False,
        unlabeled=True,
        seed=seed,
    )


def trainer(epochs: int, callbacks: list[Any]) -> Trainer:
    """One that writes nothing."""
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=epochs,
        gradient_clip_val=10.0,
        callbacks=callbacks,
        **quiet,
    )


def tested(module: Detector, data: RGBThermalFolder, by: Trainer) -> tuple[float, float]:
    """mAP50 and mAP50-95 on the test frames of all cameras."""
    (found,) = by.test(module, data, verbose=False)
    return found["test/map50"], found["test/map"]


def distilled(args: argparse.Namespace, frozen: bool, epochs: int, seed: int) -> tuple[float, float]:
    """A student's figures after so many passes."""
    seed_everything(seed, verbose=False)
    data = pairs(args.root, "thermal", seed)
    steps = epochs * (args.frames // 2) * len(args.cameras) // BATCH
    student = Detector(
        str(args.weights / "yolov8n.pt"),
        1,
        CARS,
        freeze_batchnorm=frozen,
        optimizer=lambda params: torch.optim.AdamW(params, lr=args.lr, weight_decay=0.0005),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, epochs, args.lr / 50
        ),
    )
    teacher = Teacher(str(args.weights / "yolo11n.pt"), class_map=CARS, batch_size=8)
    distillation = BoxDistillation(teacher, alpha=0.0, score_threshold=0.1, sees="frame")
    by = trainer(epochs, [WarmUp(steps=steps // 10), distillation])
    by.fit(student, data)
    return tested(student, data, by)


def main() -> None:
    """Draws, trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 6, 20])
    parser.add_argument("--lr", type=float, default=0.0005)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--cameras", nargs="+", default=[f"C{k}" for k in range(1, 7)])
    parser.add_argument("--weights", type=Path, default=Path("data/weights"))
    parser.add_argument("--root", type=Path, default=Path("data/world_thermal"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    ParkingWorld(str(args.root), args.cameras, args.frames, size=SIZE, views=["thermal"]).prepare_data()
    figures = {
        "teacher: yolo11n on the visible frames, 640 px": [
            tested(
                Detector(str(args.weights / "yolo11n.pt"), 1, CARS),
                pairs(args.root, "visible", size=640),
                trainer(0, []),
            )
        ],
        "start: yolov8n on the thermal frames": [
            tested(
                Detector(str(args.weights / "yolov8n.pt"), 1, CARS),
                pairs(args.root, "thermal"),
                trainer(0, []),
            )
        ],
    }
    for epochs in args.epochs:
        for frozen in (True, False):
            arm = f"statistics {'frozen' if frozen else 'trained'}, {epochs} epochs"
            figures[arm] = [distilled(args, frozen, epochs, seed) for seed in args.seeds]
            print(arm, figures[arm], flush=True)
    print(to_markdown([{"student": arm, **_row(found)} for arm, found in figures.items()]))


def _row(found: list[tuple[float, float]]) -> dict[str, str]:
    row = {}
    for name, values in zip(("mAP50", "mAP50-95"), zip(*found, strict=True), strict=True):
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        row[name] = f"{statistics.mean(values):.3f}{spread}"
    return row


if __name__ == "__main__":
    main()
