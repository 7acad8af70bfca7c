"""Where time goes in lkd: one table of everything that is measured, `make bench`.

    python benchmarks/bench.py                          # a quarter of an hour on one core
    python benchmarks/bench.py --only W1 step --repeats 5
    python benchmarks/bench.py --quick                  # whether it runs: tiny numbers, figures without meaning

Contenders of one piece of work take turns, and what comes first is not counted. CPU time is that of the process and
of those that it starts; the ratio is to the first contender's CPU time in the same turn; MB is what the process had at
most beyond what it had before. W1 to W3 are in benchmarks/engines.py. W4: yolov8n from random weights, 160 px, nine
clients of 16 frames, batch 8. The clients of FedMD and MHD share four fifths of the digits; the rest is public.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import engines
import step_cost
import torch
from costs import QUIET, Rounds, in_turns, middle, several
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from lkd.callbacks import Distillation
from lkd.datamodules import IID, Digits, FederatedDataModule, Natural, YoloFolder
from lkd.federated import MHD, FedAvg, Federation, FedMD, LocalTraining
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.engines import Auto, Engine, Loop, Processes, Stacked
from lkd.federated.server.weighted_sum import RunningSum
from lkd.federated.topology import Ring
from lkd.losses import KD, RKD, FitNets
from lkd.metrics.tables import print_table
from lkd.models import MLP
from lkd.models.yolo_import import ultralytics_tasks
from lkd.modules import Classifier, Detector, MultiHeadClassifier
from lkd.teachers import Teacher

SGD = functools.partial(torch.optim.SGD, lr=0.1)
Row = dict[str, object]


def fit(federation: Federation, data: LightningDataModule, rounds: int) -> tuple[float, float]:
    """Seconds of a round."""
    clock = Rounds()
    Trainer(max_epochs=1 + rounds, callbacks=[clock], **QUIET).fit(federation, data)
    return middle(clock.found)


def of_rounds(repeats: int, quick: bool) -> Iterator[Row]:
    """W1 to W3."""
    for name in ["W2, 100 a round"] if quick else engines.WORKLOADS:
        yield from engines.rows(name, repeats, 1 if quick else None)


def of_knowledge(repeats: int, quick: bool) -> Iterator[Row]:
    """Rounds that exchange what models say."""

    def measured(
        model: LightningModule, algorithm: Algorithm, clients: int, engine: Engine
    ) -> tuple[float, float]:
        federation = Federation(model, algorithm, LocalTraining(epochs=1), engine=engine)
        data = FederatedDataModule(Digits(batch_size=16), IID(), clients=clients, public=0.2)
        return fit(federation, data, 1 if quick else 5)

    def fedmd(engine: Callable[[], Engine]) -> tuple[float, float]:
        model = Classifier(MLP(64, 10, hidden=[64, 16]), num_classes=10, optimizer=SGD)
        return measured(model, FedMD(batch_size=32, epochs=1, pretrain=0), many, engine())

    def mhd() -> tuple[float, float]:
        model = MultiHeadClassifier(
            MLP(64, 64, hidden=[64]), num_classes=10, heads=4, embedding=64, example=[1, 8, 8], optimizer=SGD
        )
        return measured(model, MHD(Ring(), batch_size=32), 8, Loop())

    many = 10 if quick else 100
    contenders = {kind.__name__: functools.partial(fedmd, kind) for kind in (Loop, Stacked, Auto)}
    yield from in_turns(f"FedMD, {many} clients", contenders, repeats)
    yield from in_turns("MHD, 8 clients", {"Loop": mhd}, repeats)


def of_steps(repeats: int, quick: bool) -> Iterator[Row]:
    """A step with distillation, and without."""
    teacher = step_cost.Student(64)

    def at(layer: str) -> dict[str, str]:
        return {"student_layer": layer, "teacher_layer": layer}

    def step(*terms: str) -> tuple[float, float]:
        made = {"KD": KD(), "FitNets": FitNets(**at("net.6")), "RKD": RKD(**at("net.8"))}
        callbacks = [Distillation(Teacher(teacher), [made[name] for name in terms])] if terms else []
        return step_cost.measure(callbacks, 20 if quick else step_cost.STEPS)

    contenders = {
        "no teacher": step,
        "KD": lambda: step("KD"),
        "KD, FitNets, RKD": lambda: step("KD", "FitNets", "RKD"),
    }
    yield from in_turns("step, batch 32", contenders, repeats)


def of_detectors(repeats: int, quick: bool) -> Iterator[Row]:
    """W4, and the loader of its frames alone."""
    with tempfile.TemporaryDirectory() as folder:
        root, frames, cameras = Path(folder), 4 if quick else 16, 2 if quick else 9
        write_frames(root, cameras, frames)
        load = functools.partial(YoloFolder, str(root), fractions=(1.0, 0.0, 0.0), batch_size=8)

        def loader(cache_mb: float = 0.0) -> tuple[float, float]:
            data = load(image_size=160, cache_mb=cache_mb)
            data.setup("fit")
            return several(lambda: list(data.train_dataloader()), 1 if quick else 3)

        loaders = {"YoloFolder": loader, "YoloFolder, cache_mb=100": lambda: loader(100)}
        if find_spec("ultralytics") is not None:
            theirs = ultralytics_loader(root, 160)
            loaders["Ultralytics, no mosaic"] = lambda: several(lambda: list(theirs), 1 if quick else 3)
        work = f"loading {cameras * frames} frames of 320x240 at 160 px"
        yield from in_turns(work, loaders, repeats)
        if find_spec("ultralytics") is None:
            print('W4 is left out: it needs the extra, pip install "lightning-kd[yolo]"')
            return

        def w4(make: Callable[[], Engine]) -> tuple[float, float]:
            federation = Federation(
                Detector("yolov8n.yaml", optimizer=SGD), FedAvg(), LocalTraining(epochs=1), engine=make()
            )
            clients = FederatedDataModule(load(image_size=64 if quick else 160), Natural("camera"))
            return fit(federation, clients, 1)

        contenders = {"Loop": lambda: w4(Loop)}
        if not quick:
            contenders["Processes, 2 workers"] = lambda: w4(Processes)
        yield from in_turns("W4", contenders, repeats)


def ultralytics_loader(root: Path, size: int) -> Iterable[object]:
    """Ultralytics' training data of the same frames: crops, flips and colors, without mosaic.

    Its buffer of decoded pictures is off: on a folder that is larger than 8 batches it serves few of them.
    """
    ultralytics_tasks()  # whose import leaves the environment and this process as they are
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    options = {"mosaic": 0.0, "imgsz": size, "scale": 0.5, "fliplr": 0.5, "translate": 0.1}
    data = YOLODataset(
        img_path=str(root / "images"), imgsz=size, batch_size=8, augment=True, hyp=get_cfg(overrides=options),
        data={"names": {0: "car"}, "channels": 3}, task="detect",
    )  # fmt: skip
    data.max_buffer_length = 0
    return DataLoader(data, batch_size=8, shuffle=True, collate_fn=_as_floats(data.collate_fn))


def _as_floats(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def floats(samples: Any) -> Any:
        batch = collate(samples)
        return {**batch, "img": batch["img"].float() / 255}  # lkd's batches are floats

    return floats


def write_frames(root: Path, cameras: int, frames: int) -> None:
    """Noise with a bright rectangle, as `YoloFolder` reads it."""
    generator = torch.Generator().manual_seed(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for name in (f"C{camera}_{frame}" for camera in range(cameras) for frame in range(frames)):
        picture = (torch.rand(240, 320, 3, generator=generator) * 50).byte()
        picture[80:160, 120:200] = 255
        Image.fromarray(picture.numpy()).save(root / "images" / f"{name}.jpg")
        (root / "labels" / f"{name}.txt").write_text(f"0 0.5 0.5 {80 / 320} {80 / 240}")


def of_sums(repeats: int, quick: bool) -> Iterator[Row]:
    """The exact sum of replies of 25 MB, against the plain one."""
    size, clients = (1000, 2) if quick else (6_250_000, 4)
    replies = [{"w": torch.randn(size)} for _ in range(clients)]

    def plain() -> None:
        total = torch.zeros(size)
        for reply in replies:
            total.add_(reply["w"], alpha=0.5)

    total = RunningSum(replies[0])  # a federation keeps it from round to round

    def exact() -> None:
        total.reset()
        for reply in replies:
            total.add(reply, 0.5)
        total.flush()

    def mean() -> None:
        exact()
        total.mean()

    works = {"float32, in order": plain, "RunningSum": exact, "RunningSum and its mean": mean}
    contenders = {name: functools.partial(several, work, 3) for name, work in works.items()}
    yield from in_turns(f"sum of {clients} x 25 MB", contenders, repeats)


PARTS = {
    "W1": of_rounds,
    "FedMD": of_knowledge,
    "step": of_steps,
    "W4": of_detectors,
    "sum": of_sums,
}


def main(args: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="W1 has W2 and W3 with it"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does it run?")
    given = parser.parse_args(args)
    engines.quiet()
    rows = [
        row for name in given.only for row in PARTS[name](1 if given.quick else given.repeats, given.quick)
    ]
    print_table(rows, "CPU and wall time of a round, a step, or what the first column says")


if __name__ == "__main__":
    main()
