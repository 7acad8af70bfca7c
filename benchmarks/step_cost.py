"""What distillation costs: a training step with each preset against the same step without, in one run.

    python benchmarks/step_cost.py

CPU time of the process a step, and the ratio to the plain step. The teacher's forward is part of it; `mechanism`
has a teacher that costs nothing and a term of weight 0, so it shows what the wrapper and the taps alone add.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from costs import QUIET, Stopwatch, in_turns
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation, FeatureDistillation, LogitDistillation, RelationDistillation
from lkd.losses import KD
from lkd.metrics.tables import print_table
from lkd.teachers import Teacher

STEPS, REPEATS = 60, 5


class Student(LightningModule):
    """A small convolutional classifier, written without any thought of distillation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Clock(Callback):
    """CPU and wall seconds of a step, from the fifth to the last."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Starts after a warm-up."""
        if batch_idx == 5:
            self._watch = Stopwatch()
        self._last = batch_idx

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        cpu, wall = self._watch.read()
        self.step = cpu / (self._last - 4), wall / (self._last - 4)


def measure(callbacks: list[Callback], steps: int = STEPS) -> tuple[float, float]:
    """CPU and wall seconds of a step."""
    data = TensorDataset(torch.rand(steps * 32, 3, 32, 32), torch.randint(10, (steps * 32,)))
    clock = Clock()
    trainer = Trainer(max_epochs=1, callbacks=[*callbacks, clock], **QUIET)
    trainer.fit(Student(16), DataLoader(data, batch_size=32))
    return clock.step


def main() -> None:
    """Measures every arm in turn, several times, and prints the medians."""
    torch.set_num_threads(1)
    large = Student(64)
    constant = torch.zeros(32, 10)
    arms: dict[str, Callable[[], list[Callback]]] = {
        "plain": lambda: [],
        "mechanism": lambda: [Distillation(Teacher(lambda x: constant), [KD(weight=0.0)])],
        "logit": lambda: [LogitDistillation(Teacher(large))],
        "feature (FitNets)": lambda: [FeatureDistillation(Teacher(large), layers={"net.6": "net.6"})],
        "relation (RKD)": lambda: [RelationDistillation(Teacher(large), "net.8", "net.8")],
    }
    contenders = {name: functools.partial(_with, make) for name, make in arms.items()}
    print_table(
        in_turns("step", contenders, REPEATS),
        f"CNN 16-32, batch 32 of 3x32x32, teacher 4 times as wide, median of {REPEATS}",
    )


def _with(make: Callable[[], list[Callback]]) -> tuple[float, float]:
    return measure(make())


if __name__ == "__main__":
    main()
