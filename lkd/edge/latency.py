"""How long a file takes for one sample on this machine."""

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lkd.edge.exported import Exported
from lkd.edge.nms import Array

WARM_UP, RUNS, SECONDS = 5, 100, 10.0


def latency(path: Path, inputs: Mapping[str, Array], threads: int) -> dict[str, Any]:
    """Times a file with one sample, again and again, until it has run 100 times or for 10 seconds.

    Args:
        path: The file.
        inputs: A sample of the test data or more, of which the first is taken.
        threads: Of the run-time.

    Returns:
        `p50_ms`, `p95_ms`, the median `cpu_ms` of this process (which other work on the machine hardly changes), `runs`, `threads`, `cpu` and what was timed.
    """
    file, one = Exported(path, threads), {name: array[:1] for name, array in inputs.items()}
    for _ in range(WARM_UP):
        file.run(one)
    taken: list[float] = []
    cpu: list[float] = []
    begin = time.perf_counter()
    while (len(taken) < RUNS and time.perf_counter() - begin < SECONDS) or not taken:
        start, busy = time.perf_counter(), time.process_time()
        file.run(one)
        taken.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
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
    """What the processor is called, as far as the system says.

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
