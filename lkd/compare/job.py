"""One run of a comparison, and the files that are kept of it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lkd.compare.grid import Run
from lkd.compare.process import Process, stop
from lkd.compare.resolve import Config, digest, save
from lkd.leaderboard.origin import origin

Start = Callable[[list[str], Path, int], Process]
RESULT, LOG = "result.json", "log.txt"
LINES = 8  # of the log of a run that failed


@dataclass
class PlannedRun:
    """A run that may be carried out.

    Attributes:
        run: Setting, method and seed.
        config: Its whole configuration.
        folder: Folder that it writes to.
    """

    run: Run
    config: Config
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        """Result of the run, whenever that was; empty if it never ended."""
        path = self.folder / RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def state(self) -> str:
        """State: `"missing"`, `"failed"`, `"changed"` (its options are others now) or `"done"`."""
        result = self.result
        if not result:
            return "missing"
        if result["digest"] != digest(self.config):
            return "changed"
        return str(result["status"])


class Running:
    """A job under way.

    Args:
        job: The job.
        threads: Threads of its process.
        jobs: Number of jobs that run at a time.
        start: Starts a process.

    Raises:
        ValueError: If its folder holds anything but an earlier run.
    """

    def __init__(self, job: PlannedRun, threads: int, jobs: int, start: Start) -> None:
        self.job, self._threads, self._jobs, self.started = job, threads, jobs, time.perf_counter()
        self._origin = asdict(origin())  # of the code that starts: it may be edited while the run goes on
        _clear(job.folder)
        path = save(job.config, job.folder)
        self._process = start(["fit", "--config", str(path)], job.folder / LOG, threads)

    def ended(self) -> dict[str, Any] | None:
        """Returns its result once the process has ended; None until then."""
        code = self._process.code()
        if code is None:
            return None
        folder = self.job.folder
        measured = folder / "fit" / "report" / "tradeoff.json"
        done = code == 0 and measured.is_file()
        log = (folder / LOG).read_text(encoding="utf-8", errors="replace") if (folder / LOG).is_file() else ""
        said = [line.rstrip() for line in log.splitlines() if line.strip()][-LINES:]
        result = {
            "status": "done" if done else "failed",
            "digest": digest(self.job.config),
            "code": code,
            "process_seconds": time.perf_counter() - self.started,
            "threads": self._threads,
            "jobs": self._jobs,
            "origin": self._origin,
            "log": [] if done else said or [f"It ended with code {code} and said nothing."],
            **(json.loads(measured.read_text(encoding="utf-8")) if done else {}),
        }
        part = folder / f"{RESULT}.part"
        part.write_text(json.dumps(result), encoding="utf-8")
        part.replace(folder / RESULT)  # so that an interruption never leaves half a file
        return result

    def stop(self) -> None:
        """Ends it early; no result is written, as if it had never begun."""
        stop(self._process)


def _clear(folder: Path) -> None:
    """Removes what an unfinished run, or one with other options, has left."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.yaml").is_file():
        raise ValueError(
            f"{folder} is not the folder of a run, and is left as it is; give the comparison another --folder."
        )
    shutil.rmtree(folder, ignore_errors=True)
