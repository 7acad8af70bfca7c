"""A round of a federation by each engine, against the same round in a hand-written PyTorch loop.

    python benchmarks/engines.py                 # all workloads, some minutes on one core
    python benchmarks/engines.py --workloads W2 --repeats 5

CPU and wall time of a round, one thread, the first round of every fit left out. Contenders take turns. The ratio is
that of a contender's CPU time to the hand-written loop's in the same turn, and of several turns the median.

| workload | clients | samples each | model | batch | epochs |
|---|---|---|---|---|---|
| W1 | 100, of which 10 or 100 a round | 50 of 1x28x28 | LeNet, 44,000 weights | 10 | 5 |
| W2 | 1000, of which 100 or 1000 a round | 18 of 64 | MLP 64-128-10 | 10 | 1 |
| W3 | 10, all | 200 of 3x32x32 | ResNet-20 with GroupNorm | 32 | 1 |
"""

import argparse
import functools
import itertools
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from costs import QUIET, Rounds, Stopwatch, in_turns, middle
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.federated.engines import Auto, Engine, Loop, Processes, Stacked
from lkd.metrics.tables import print_table
from lkd.models import MLP
from lkd.modules import Classifier

LR = 0.05


def lenet() -> nn.Module:
    """Two convolutions and two linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


class Block(nn.Module):
    """Two convolutions with GroupNorm, and a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.GroupNorm(8, after), nn.ReLU()),
            *(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.GroupNorm(8, after)),
        )
        same = before == after
        self.around = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, before, H, W)` to `(B, after, H / stride, W / stride)`."""
        return F.relu(self.body(x) + self.around(x))


def resnet20() -> nn.Module:
    """Nine blocks of 16, 32 and 64 channels."""
    widths = [16, *[16] * 3, *[32] * 3, *[64] * 3]
    blocks = [Block(a, b, 1 + (a != b)) for a, b in itertools.pairwise(widths)]
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), *blocks, *ends)


@dataclass
class Workload:
    """Clients, their data, and what they train."""

    clients: int
    cohort: int
    samples: int
    shape: tuple[int, ...]
    network: Callable[[], nn.Module]
    batch: int
    epochs: int
    rounds: int


WORKLOADS = {
    "W1, 10 a round": Workload(100, 10, 50, (1, 28, 28), lenet, 10, 5, 4),
    "W1, 100 a round": Workload(100, 100, 50, (1, 28, 28), lenet, 10, 5, 2),
    "W2, 100 a round": Workload(1000, 100, 18, (64,), lambda: MLP(64, 10, hidden=[128]), 10, 1, 12),
    "W2, 1000 a round": Workload(1000, 1000, 18, (64,), lambda: MLP(64, 10, hidden=[128]), 10, 1, 3),
    "W3": Workload(10, 10, 200, (3, 32, 32), resnet20, 32, 1, 2),
}
ENGINES: dict[str, Callable[[], Engine]] = {"Loop": Loop, "Stacked": Stacked, "Auto": Auto}
SIDE_BY_SIDE: dict[str, Callable[[], Engine]] = {"Processes, 2 workers": Processes}
"""For workloads that take long enough to be worth processes."""


class Noise(LightningDataModule):
    """As many samples as all clients hold; what they show does not matter here."""

    def __init__(self, work: Workload) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        total = work.clients * work.samples
        self.batch = work.batch
        self.x = torch.randn(total, *work.shape, generator=generator)
        self.y = torch.randint(10, (total,), generator=generator)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """All of them."""
        return DataLoader(TensorDataset(self.x, self.y), batch_size=self.batch)


def by_lkd(work: Workload, data: Noise, engine: Engine) -> tuple[float, float]:
    """Seconds of a round."""
    sgd = functools.partial(torch.optim.SGD, lr=LR)
    module = Classifier(work.network(), num_classes=10, optimizer=sgd)
    federation = Federation(module, FedAvg(), LocalTraining(epochs=work.epochs), engine=engine)
    rounds = Rounds()
    trainer = Trainer(max_epochs=1 + work.rounds, callbacks=[rounds], **QUIET)
    cohort = work.cohort if work.cohort < work.clients else None
    trainer.fit(federation, FederatedDataModule(data, IID(), clients=work.clients, cohort=cohort))
    return middle(rounds.found)


def by_hand(work: Workload, data: Noise) -> tuple[float, float]:
    """Seconds of a round in the shortest loop that does the same."""
    network = work.network()
    parameters = list(network.parameters())
    server = [p.detach().clone() for p in parameters]
    found = []
    for _ in range(1 + work.rounds):
        watch = Stopwatch()
        total = [torch.zeros_like(p) for p in server]
        for client in torch.randperm(work.clients)[: work.cohort].tolist():
            with torch.no_grad():
                torch._foreach_copy_(parameters, server)
            optimizer = torch.optim.SGD(parameters, lr=LR, foreach=True)
            for _ in range(work.epochs):
                order = torch.randperm(work.samples) + client * work.samples
                for rows in order.split(work.batch):
                    F.cross_entropy(network(data.x[rows]), data.y[rows]).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            with torch.no_grad():
                change = torch._foreach_sub([p.detach() for p in parameters], server)
                torch._foreach_add_(total, change, alpha=1 / work.cohort)
        torch._foreach_add_(server, total)
        found.append(watch.read())
    return middle(found)


def rows(name: str, repeats: int, rounds: int | None) -> list[dict[str, object]]:
    """The rows of a workload; `rounds` in place of its own number of rounds that count."""
    work = replace(WORKLOADS[name], rounds=rounds or WORKLOADS[name].rounds)
    data = Noise(work)
    engines = {**ENGINES, **(SIDE_BY_SIDE if name == "W3" else {})}
    contenders = {"by hand": lambda: by_hand(work, data)}
    contenders |= {each: functools.partial(_with, work, data, make) for each, make in engines.items()}
    return in_turns(name, contenders, repeats)


def _with(work: Workload, data: Noise, make: Callable[[], Engine]) -> tuple[float, float]:
    return by_lkd(work, data, make())


def quiet() -> None:
    """One thread, and no words but the table's."""
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)


def main(args: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["W"], help="beginnings of their names")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="rounds of a fit that count; default: by the workload")
    given = parser.parse_args(args)
    quiet()
    found = []
    for name in WORKLOADS:
        if name.startswith(tuple(given.workloads)):
            found += rows(name, given.repeats, given.rounds)
    print_table(found, "A round of FedAvg")


if __name__ == "__main__":
    main()
