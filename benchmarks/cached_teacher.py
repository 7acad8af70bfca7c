"""What a cache of a teacher's answers saves: epochs without a teacher, with a live one, and with a cold and a warm cache.

    python benchmarks/cached_teacher.py

CPU time of the process an epoch, the least of several, as a ratio to the epoch without a teacher; a step and the size of the store beside it.
`at hand` is a teacher whose answer is there for nothing: what is left is the loss itself, and no cache can be cheaper.
Two students learn from the logits of a small and of a heavy teacher, and one learns from a map of features.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation
from lkd.losses import KD, FitNets, Term
from lkd.metrics.tables import print_table
from lkd.teachers import CachedTeacher, Teacher

SAMPLES, BATCH, REPEATS = 256, 32, 4
TEACHERS = ("resnet10t", "resnet101")


class Student(LightningModule):
    """A classifier of timm."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = timm.create_model(name, num_classes=10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class AtHand(Teacher):
    """Gives the answer to its first batch again, whatever it is asked."""

    first: Any = None

    def served(self, asked: Any, call: Any, answer: Any) -> Any:
        """Asks once."""
        self.first = answer(call) if self.first is None else self.first
        return self.first


class Clock(Callback):
    """CPU seconds of an epoch, from its second batch on: the first one is asked about live."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Starts."""
        if batch_idx == 1:
            self.start = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        self.seconds = time.process_time() - self.start


def epoch(student: str, data: TensorDataset, teacher: Teacher | None, terms: list[Term]) -> float:
    """CPU seconds of one epoch."""
    clock = Clock()
    callbacks = [clock] if teacher is None else [Distillation(teacher, terms), clock]
    torch.manual_seed(0)
    Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
    ).fit(Student(student), DataLoader(data, batch_size=BATCH, shuffle=True))  # fmt: skip
    return clock.seconds


def arm(title: str, student: str, name: str, terms: list[Term], side: int) -> dict[str, object]:
    """A row: every kind of epoch, in turn, several times."""
    torch.manual_seed(1)
    net: nn.Module = timm.create_model(name, num_classes=10)
    data = TensorDataset(torch.rand(SAMPLES, 3, side, side), torch.randint(10, (SAMPLES,)))
    seconds: dict[str, list[float]] = {kind: [] for kind in ("none", "at hand", "live", "cold", "warm")}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            seconds["none"].append(epoch(student, data, None, []))
            seconds["at hand"].append(epoch(student, data, AtHand(net), terms))
            seconds["live"].append(epoch(student, data, Teacher(net), terms))
            for kind in ("cold", "warm"):
                teacher = CachedTeacher(net, Path(folder))
                seconds[kind].append(epoch(student, data, teacher, terms))
                size = sum(row["bytes"] for row in teacher.store.stat())
                teacher.store.close()
    least = {kind: min(values) for kind, values in seconds.items()}  # the machine may have had other work
    row: dict[str, object] = {"teacher": title, "student": student}
    row |= {kind: value / least["none"] for kind, value in least.items()}
    steps = SAMPLES / BATCH - 1
    return row | {"ms a step without": 1000 * least["none"] / steps, "kB a sample": size / SAMPLES / 1e3}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", nargs="+", choices=TEACHERS, default=TEACHERS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logits: list[Term] = [KD()]
    rows = [arm(f"{name}, logits", "test_resnet", name, logits, 64) for name in options.teachers]
    maps = FitNets(student_layer="net.layer4", teacher_layer="layer4")
    rows.append(arm("resnet10t, a map", "test_resnet", "resnet10t", [maps], 64))
    rows.append(arm("resnet10t, logits", "resnet10t", "resnet10t", logits, 64))
    print_table(rows, "CPU time of an epoch as a ratio to that without a teacher")


if __name__ == "__main__":
    main()
