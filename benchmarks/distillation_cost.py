"""What `Distillation` costs beside the models, and how a teacher's forward becomes cheaper.

    python benchmarks/distillation_cost.py              # both tables, two minutes
    python benchmarks/distillation_cost.py --turns 3 --only teachers

First table: a training step of an MLP 32-64-10 with a linear teacher and `KD`, forward and backward, batches of 32, against the
same written by hand, without logs in either. Second: forwards of teachers in other forms, ratio to `torch.no_grad` in float32.
CPU time, one thread; contenders take turns, and ratios are of the same turn, median over the turns.
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from lkd.distillation import Distiller
from lkd.losses import KD
from lkd.metrics.tables import to_markdown
from lkd.models import MLP
from lkd.modules import Classifier
from lkd.teachers import Teacher

CLASSES, TEMPERATURE = 10, 4.0


def cpu_ms(run: Callable[[], object], times: int) -> float:
    """CPU milliseconds of a call, mean over so many."""
    begun = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - begun) / times * 1e3


def in_turns(arms: dict[str, Callable[[], object]], times: int, turns: int) -> dict[str, list[float]]:
    """CPU milliseconds of each contender in each turn."""
    for run in arms.values():
        cpu_ms(run, max(1, times // 10))
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(turns):
        for name, run in arms.items():
            found[name].append(cpu_ms(run, times))
    return found


class Step(Classifier):
    """A classifier that logs nothing, since Lightning's logs need a Trainer."""

    def __init__(self) -> None:
        super().__init__(MLP(32, CLASSES, hidden=[64]))

    def log(self, *args: object, **kwargs: object) -> None:
        """Logs nothing."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The cross entropy."""
        return cross_entropy(self(batch[0]), batch[1])


class ByHand(Step):
    """The same with the teacher's loss, as somebody would write it."""

    teacher: Callable[[Tensor], Tensor]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross entropy and `KD`."""
        with torch.no_grad():
            target = self.teacher(batch[0]) / TEMPERATURE
        found = self(batch[0])
        told = kl_div(
            log_softmax(found / TEMPERATURE, 1),
            log_softmax(target, 1),
            log_target=True,
            reduction="batchmean",
        )
        return cross_entropy(found, batch[1]) + told * TEMPERATURE**2


def mechanism(turns: int) -> str:
    """What the mechanism adds to a step."""
    batch = [torch.rand(32, 32), torch.randint(CLASSES, (32,))]
    teacher = nn.Linear(32, CLASSES)
    plain, hand, distilled = Step(), ByHand(), Step()
    hand.teacher = lambda x: teacher(x)  # none of the module's parameters
    Distiller(Teacher(teacher), [KD(temperature=TEMPERATURE)], alpha=1.0).attach(distilled, example=batch)
    modules = {"no teacher": plain, "by hand": hand, "Distillation": distilled}
    arms = {name: lambda m=module: m.training_step(batch, 0).backward() for name, module in modules.items()}
    found = in_turns(arms, 300, turns)
    rows = [{"step": name, "ms": f"{median(times):.3f}"} for name, times in found.items()]
    more = median(a - b for a, b in zip(found["Distillation"], found["by hand"], strict=True))
    return f"{to_markdown(rows)}\n\nmore than by hand: {more:.3f} ms"


def forwards(network: nn.Module, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The network's forward in each form."""

    def plain() -> Tensor:
        with torch.no_grad():
            return network(x)

    def inference() -> Tensor:
        with torch.inference_mode():
            return network(x)

    def half() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return network(x)

    return {"no_grad": plain, "inference_mode": inference, "bf16": half}


def teachers(turns: int) -> str:
    """Forwards of teachers, ratio to float32 under `no_grad`."""
    cnn = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES),
    )  # fmt: skip
    cases: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
        "MLP 784-200-200-10, 32": (MLP(784, CLASSES, hidden=[200, 200]), (32, 784), 200),
        "CNN 64-128 of 32x32, 32": (cnn, (32, 3, 32, 32), 10),
        "ResNet-18 at 64 px, 32": (timm.create_model("resnet18", num_classes=CLASSES), (32, 3, 64, 64), 4),
        "ViT-tiny at 224 px, 8": (timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES), (8, 3, 224, 224), 2),
    }  # fmt: skip
    rows = []
    for name, (network, shape, times) in cases.items():
        network.eval().requires_grad_(False)
        x = torch.rand(shape)
        arms = forwards(network, x)
        if x.dim() == 4:
            last = copy.deepcopy(network).to(memory_format=torch.channels_last)
            there = forwards(last, x.contiguous(memory_format=torch.channels_last))
            arms |= {"channels last": there["no_grad"], "channels last, bf16": there["bf16"]}
        found = in_turns(arms, times, turns)
        base = found["no_grad"]
        ratios = {n: f"{median(a / b for a, b in zip(t, base, strict=True)):.2f}" for n, t in found.items() if n != "no_grad"}  # fmt: skip
        empty = dict.fromkeys(("inference_mode", "bf16", "channels last", "channels last, bf16"), "")
        rows.append({"teacher, batch": name, "ms": f"{median(base):.3g}", **empty, **ratios})
    return to_markdown(rows)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", choices=("mechanism", "teachers"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, table in (("mechanism", mechanism), ("teachers", teachers)):
        if given.only in (None, name):
            print(f"{table(given.turns)}\n", flush=True)


if __name__ == "__main__":
    main()
