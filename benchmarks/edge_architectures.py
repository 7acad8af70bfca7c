"""Six architectures as files, in float32 and in 8 bits, in ONNX Runtime and in OpenVINO: metric, size and time.

    python benchmarks/edge_architectures.py --data data

Detectors find vehicles on the real traffic cameras at 320 px (DATA/traffic_cams): yolov8n and yolo11n with COCO's weights, and an
SSDLite trained on the labels of the first 60 % of the frames. Classifiers (a ResNet, a MobileNet and a ViT, all small) learn ten
classes of pictures from random weights for a few epochs (DATA/cifar10_subset). All are exported, and every file is measured on the
test data in the place of its network. 8 bits: post-training quantization on 64 frames of the training data. The CPU time is the
median of one sample on one thread; a detector's suppression lies beside its file and is not in it. Trained students are kept in
FOLDER and not trained again. Prints a Markdown table, the last column of which is what 8 bits lose; `--quick` looks whether all runs.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything

from lkd.datamodules import ImageFolderData, YoloFolder
from lkd.edge import Exported, to_openvino
from lkd.edge.export import export
from lkd.edge.export.boxes import DetectorKind, padded
from lkd.edge.export.kind import ExportPart, arrays
from lkd.edge.export.logits import ClassifierKind
from lkd.edge.export.measure import TestData, measured
from lkd.edge.export.parity import Parity
from lkd.edge.exported import files
from lkd.edge.latency import latency
from lkd.metrics.tables import Row, to_markdown
from lkd.models import TorchvisionDetector
from lkd.modules import Classifier, Detector

FRAMES = 64
VEHICLES = {2: 0, 5: 0, 7: 0}  # COCO's car, bus and truck


class Student(NamedTuple):
    """Who is exported.

    Attributes:
        name: In the table.
        make: Makes the module, given the folder of the data.
        epochs: Of training; 0 for weights that are there.
    """

    name: str
    make: Callable[[Path], LightningModule]
    epochs: int


def _yolo(name: str) -> Callable[[Path], LightningModule]:
    return lambda data: Detector(str(data / f"weights/{name}.pt"), class_map=VEHICLES)


def _ssdlite(data: Path) -> LightningModule:
    return Detector(TorchvisionDetector("ssdlite", anchor_scale=0.4))


def _timm(name: str, **options: Any) -> Callable[[Path], LightningModule]:
    return lambda data: Classifier(timm.create_model(name, num_classes=10, **options), num_classes=10)


DETECTORS = [
    Student("yolov8n", _yolo("yolov8n"), 0),
    Student("yolo11n", _yolo("yolo11n"), 0),
    Student("SSDLite", _ssdlite, 25),
]
CLASSIFIERS = [
    Student("ResNet-18", _timm("resnet18"), 2),
    Student("MobileNetV3-small", _timm("mobilenetv3_small_100"), 4),
    Student("ViT-tiny", _timm("vit_tiny_patch16_224", img_size=64), 4),
]


def data_of(student: Student, root: Path) -> LightningDataModule:
    """The traffic cameras, or pictures at 64 px."""
    if student in DETECTORS:
        cars = {0: 0, 1: 0, 2: 0}  # car, bus and truck
        return YoloFolder(str(root / "traffic_cams"), class_map=cars, image_size=320, fractions=(0.6, 0.0, 0.4),
                          one_camera_per_batch=False, batch_size=8, crop=(0.5, 1.0))  # fmt: skip
    tar = root / "cifar10_subset/cifar10_subset.tar"
    moments = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]}
    return ImageFolderData(str(tar), image_size=64, test=0.1, flip=0.5, batch_size=64, **moments)


def trained(
    student: Student, data: LightningDataModule, root: Path, path: Path, quick: bool
) -> LightningModule:
    """The module, and its checkpoint at `path`."""
    seed_everything(0, verbose=False)
    module = student.make(root)
    if path.is_file():
        module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        return module.eval()
    epochs = min(student.epochs, 1) if quick else student.epochs
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", limit_train_batches=2 if quick else None, limit_val_batches=0,
                      gradient_clip_val=10.0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False)  # fmt: skip
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(path, weights_only=False)
    return module.eval()


def frames(data: LightningDataModule, part: ExportPart, count: int) -> list[dict[str, Any]]:
    """Training pictures as the file takes them, one each."""
    ((name, example),) = part.inputs.items()
    found: list[dict[str, Any]] = []
    data.setup("fit")
    for batch in data.train_dataloader():
        pictures = padded(batch["images"], example.shape[-2:]) if isinstance(batch, dict) else batch[0]
        found += [arrays({name: one[None]}) for one in pictures]
        if len(found) >= count:
            break
    return found[:count]


def rows(student: Student, root: Path, folder: Path, quick: bool) -> Iterator[Row]:
    """A line for each file of a student."""
    # after the imports above: this is the one thing here that needs it
    from lkd.edge.compress.quantize import quantize_file

    folder.mkdir(parents=True, exist_ok=True)
    limit = 1 if quick else None
    data = data_of(student, root)
    module = trained(student, data, root, folder / "student.ckpt", quick)
    (first,) = export(
        module,
        data,
        str(folder / "student.ckpt"),
        str(folder),
        nms="beside",
        max_drop=1.0,
        limit_test_batches=limit,
    )
    kind = DetectorKind(module, "beside") if isinstance(module, Detector) else ClassifierKind(module)
    test = TestData(data, limit=limit)
    measured(kind, test, kind.watch(getattr(module, kind.method)), as_it_is=True)
    (part,) = kind.parts()
    int8 = folder / "student_int8.onnx"
    quantize_file(first, int8, frames(data, part, 4 if quick else FRAMES))
    metric, base = "map" if isinstance(module, Detector) else "test/acc", math.nan
    for bits, path in (
        ("float32", first),
        ("float32", to_openvino(first)),
        ("int8", int8),
        ("int8", to_openvino(int8)),
    ):
        method = kind.stand_in({"": part}, {"": Exported(path)}, {"": Parity(math.inf)})
        value = measured(kind, test, method, as_it_is=False)[""][metric]
        base = value if path == first else base
        yield {
            "student": student.name,
            "metric": metric.removeprefix("test/"),
            "bits": bits,
            "run by": "OpenVINO" if path.suffix == ".xml" else "ONNX Runtime",
            "value": f"{value:.4f}",
            "MB": f"{sum(one.stat().st_size for one in files(path)) / 1e6:.2f}",
            "CPU ms": f"{latency(path, arrays(part.inputs), threads=1)['cpu_ms']:.2f}",
            "lost": f"{base - value:+.4f}",
        }


def main(args: list[str] | None = None) -> list[Row]:
    """Measures, and prints the table."""
    students = {student.name: student for student in [*DETECTORS, *CLASSIFIERS]}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/edge_architectures"))
    parser.add_argument("--only", nargs="+", choices=list(students), default=list(students))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(args)
    folder = given.folder / "quick" if given.quick else given.folder
    torch.set_num_threads(1)
    found: list[Row] = []
    for name in given.only:
        found += rows(students[name], given.data, folder / name, given.quick)
        print(to_markdown(found), flush=True)
    return found


if __name__ == "__main__":
    main()
