"""Local training against the same steps in a hand-written PyTorch loop, and under a Trainer.

    python benchmarks/local_loop.py

A tiny MLP (32-64-10), batch 32, SGD, on batches that are ready, so that the loop is all there is. CPU
microseconds a step, median of interleaved repeats, and the ratio to the hand-written loop.
"""

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lkd.federated.client.context import ClientContext
from lkd.federated.client.local_optimizer import LocalOptimizer
from lkd.federated.client.training_loop import LocalLoop
from lkd.federated.client.worker import Worker
from lkd.metrics.tables import print_table

STEPS, REPEATS = 400, 15
Batch = tuple[Tensor, Tensor]


class MLP(LightningModule):
    """A client as its author would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross entropy, logged."""
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


def by_hand(module: MLP, batches: list[Batch]) -> None:
    """What one writes without a framework; the losses are kept, as a log would keep them."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    losses = []
    module.train()
    for x, y in batches:
        loss = F.cross_entropy(module.net(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    torch.stack(losses).mean()


def by_lkd(loop: LocalLoop, worker: Worker, batches: list[Batch]) -> None:
    """The same steps by a federation's local loop."""

    def passes() -> Iterator[tuple[bool, Batch]]:
        for index, batch in enumerate(batches):
            yield index == len(batches) - 1, batch

    loop.local_optimizer.begin_client()
    x = [p.detach().clone() for p in worker.parameters]
    client: Any = None  # its data are these batches
    loop.train(passes(), ClientContext(loop, x, {}, {}, {"steps": float(len(batches))}, client))
    worker.log.compute()


def microseconds(run: Callable[[], None]) -> float:
    """CPU time of a step."""
    start = time.process_time()
    run()
    return 1e6 * (time.process_time() - start) / STEPS


def main() -> None:
    """Prints the table."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batches = [(torch.randn(32, 32), torch.randint(10, (32,))) for _ in range(STEPS)]
    plain, trainer = MLP(), Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    worker = Worker(plain)
    worker.prepare(plain, trainer)
    loop = LocalLoop(worker, LocalOptimizer(worker.module), trainer)
    runs: dict[str, Callable[[], None]] = {
        "by hand": lambda: by_hand(plain, batches),
        "lkd's local loop, with self.log": lambda: by_lkd(loop, worker, batches),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            times[name].append(microseconds(run))
    ratios = {
        n: statistics.median(t / h for t, h in zip(ts, times["by hand"], strict=True))
        for n, ts in times.items()
    }
    rows = [
        {"Loop": name, "CPU us a step": round(statistics.median(ts)), "ratio": round(ratios[name], 3)}
        for name, ts in times.items()
    ]
    print_table(rows, "A step of a tiny MLP, batch 32")


if __name__ == "__main__":
    main()
