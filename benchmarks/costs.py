"""What a piece of work costs: CPU seconds, wall time and memory, for benchmarks whose contenders take turns."""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}
"""Options of a Trainer that does nothing but train."""


class Cost(NamedTuple):
    """CPU and wall seconds of a piece of work, and the MB that its process had at most beyond those at its start."""

    cpu: float
    wall: float
    memory: float


class Stopwatch:
    """Measures from its making to `read`."""

    def __init__(self) -> None:
        self._cpu, self._wall = cpu_seconds(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """CPU and wall seconds."""
        return cpu_seconds() - self._cpu, time.perf_counter() - self._wall


class Rounds(Callback):
    """Seconds of each epoch, which is a round of a federation."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts."""
        self._watch = Stopwatch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        self.found.append(self._watch.read())


def middle(found: list[tuple[float, float]]) -> tuple[float, float]:
    """Medians of CPU and wall seconds, without the first."""
    return statistics.median(c for c, _ in found[1:]), statistics.median(w for _, w in found[1:])


def several(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Medians of CPU and wall seconds of a call, after one that does not count."""
    found = []
    for _ in range(1 + times):
        watch = Stopwatch()
        work()
        found.append(watch.read())
    return middle(found)


def in_turns(
    work: str, contenders: Mapping[str, Callable[[], tuple[float, float]]], repeats: int
) -> list[dict[str, object]]:
    """A row for each contender; the first is what the others' CPU time is divided by, turn by turn.

    So a noisy machine changes both. What has been measured is told at once, since it may take minutes.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, measure in contenders.items():
            before = _reset_peak()
            torch.manual_seed(0)
            costs[name].append(Cost(*measure(), _peak() - before))
            print(f"{work}, {name}: {1e3 * costs[name][-1].cpu:.4g} CPU ms", file=sys.stderr, flush=True)
    first = next(iter(costs.values()))
    rows: list[dict[str, object]] = []
    for name, found in costs.items():
        cpu, wall, memory = (statistics.median(values) for values in zip(*found, strict=True))
        ratio = statistics.median(one.cpu / base.cpu for one, base in zip(found, first, strict=True))
        row = {"work": work, "contender": name, "CPU ms": f"{1e3 * cpu:.4g}", "wall ms": f"{1e3 * wall:.4g}"}
        rows.append({**row, "ratio": f"{ratio:.2f}", "MB": f"{memory:.0f}"})
    return rows


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has started and that still live (Linux)."""
    ticks = 0
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            ticks += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _reset_peak() -> float:
    """Forgets the peak of this process's memory, where Linux lets it; returns the MB that it has now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _peak()


def _peak() -> float:
    """MB that this process has had at most; nan where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))
