"""The machine: processor, threads, GPUs, free memory and disk."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lkd.doctor.finding import Finding

FREE_DISK_GB, FREE_MEMORY_GB = 5.0, 2.0
"""Below these there is a warning."""
DRIVER = Path("/dev/nvidiactl")


def machine(folder: Path) -> dict[str, Any]:
    """Returns what lkd would compute with.

    Args:
        folder: Folder of whose disk the free space is told.

    Returns:
        `system`, `processor`, `cores` (those that this process may use), `threads` and `vectors` (torch's, such
        as `"AVX2"`; None without torch), `gpus` (name and memory of each), `driver` (whether NVIDIA's is there),
        `free_disk_gb` and `free_memory_gb` (None where the system does not tell).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores,
        **_of_torch(),
        "driver": DRIVER.exists(),
        "free_disk_gb": round(shutil.disk_usage(folder).free / 1e9, 1),
        "free_memory_gb": _free_memory(),
    }


def scarce(there: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields what there is too little of.

    Example:
        >>> [each.sentence for each in scarce({"free_disk_gb": 1.5, "free_memory_gb": None})]
        ['only 1.5 GB are free on the disk of this folder, and runs write their checkpoints to it.']
    """
    disk, memory = there["free_disk_gb"], there["free_memory_gb"]
    if disk < FREE_DISK_GB:
        yield Finding(
            f"only {disk} GB are free on the disk of this folder, and runs write their checkpoints to it."
        )
    if memory is not None and memory < FREE_MEMORY_GB:
        yield Finding(
            f"only {memory} GB of memory are free, and a run that needs more is ended by the system."
        )


def _of_torch() -> dict[str, Any]:
    try:
        import torch
    except Exception:  # `imports` says why
        return {"threads": None, "vectors": None, "gpus": []}
    cuda = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    gpus = [f"{each.name}, {each.total_memory / 1e9:.0f} GB" for each in cuda]
    if torch.backends.mps.is_available():
        gpus.append("Apple (mps)")
    vectors = torch.backends.cpu.get_cpu_capability()
    return {"threads": torch.get_num_threads(), "vectors": vectors, "gpus": gpus}


def _processor() -> str:
    """Returns the processor's name; Linux tells it in a file, and `platform` only its kind."""
    there = Path("/proc/cpuinfo")
    lines = there.read_text(encoding="utf-8").splitlines() if there.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _free_memory() -> float | None:
    """Returns the GB that new processes can have, within the limit of a container."""
    there = Path("/proc/meminfo")
    if not there.is_file():
        return None
    kilobytes = {
        line.split(":")[0]: line.split()[1] for line in there.read_text().splitlines() if ":" in line
    }
    free = int(kilobytes["MemAvailable"]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return round(free / 1e9, 1)
