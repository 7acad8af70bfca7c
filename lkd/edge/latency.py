"""How long a file takes for one sample on this machine."""

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lkd.edge.exported import Exported
from lkd.edge.nms import Array

WARM_UP, RUNS, LEAST, SECONDS = 5, 100, 0.3, 10.0


def latency(path: Path, inputs: Mapping[str, Array], threads: int) -> dict[str, Any]:
    """Times a file with one sample, until it has run 100 times and for .3 seconds, or for 10 seconds.

    Args:
        path: The file.
        inputs: One or more samples of the test data, of which the first is taken.
        threads: Number of threads of the runtime.

    Returns:
        `p50_ms`, `p95_ms`, the median `cpu_ms` of this process (which other work on the machine hardly
        changes), `runs`, `threads`, `cpu` and what was timed.
    """
    return latencies([path], inputs, threads)[0]


def latencies(paths: Sequence[Path], inputs: Mapping[str, Array], threads: int) -> list[dict[str, Any]]:
    """Times files with the same inputs in turns, so that other work on the machine affects all of them alike.

    Args:
        paths: The files.
        inputs: As in `latency`.
        threads: As in `latency`.

    Returns:
        For each file, what `latency` gives.
    """
    files, one = (
        [Exported(path, threads) for path in paths],
        {name: array[:1] for name, array in inputs.items()},
    )
    for file in files * WARM_UP:
        file.run(one)
    taken: list[list[float]] = [[] for _ in files]
    cpu: list[list[float]] = [[] for _ in files]
    begin = time.perf_counter()
    turns, spent = [*enumerate(files)], 0.0
    while not taken[-1] or ((len(taken[-1]) < RUNS or spent < LEAST * len(files)) and spent < SECONDS):
        spent = time.perf_counter() - begin
        turns.append(turns.pop(0))  # so that no file always runs after the same other one
        for number, file in turns:
            start, busy = time.perf_counter(), time.process_time()
            file.run(one)
            taken[number].append(time.perf_counter() - start)
            cpu[number].append(time.process_time() - busy)
    return [_said(*each, threads) for each in zip(files, taken, cpu, strict=True)]


def _said(file: Exported, taken: list[float], cpu: list[float], threads: int) -> dict[str, Any]:
    p50, p95 = (round(1000 * float(np.percentile(taken, share)), 3) for share in (50, 95))
    beside = file.spec.get("nms") == "beside"
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "cpu_ms": round(1000 * float(np.median(cpu)), 3),
        "runs": len(taken),
        "threads": threads,
        "cpu": cpu_name(),
        "what": "one sample through the file, without reading it" + (" and without NMS" if beside else ""),
    }


def cpu_name() -> str:
    """Returns the name of the processor, as far as the system knows it.

    Example:
        >>> bool(cpu_name())
        True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return next(iter(names), "") or platform.processor() or platform.machine() or "unknown"
