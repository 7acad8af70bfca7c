"""The verb `compare`: runs methods over settings and seeds, and reports results and costs."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lkd.compare import report
from lkd.compare.grid import RunGrid
from lkd.compare.job import PlannedRun
from lkd.compare.options import read_options
from lkd.compare.reading import chosen, read
from lkd.compare.resolve import Config, for_run, parse, wandb_options
from lkd.compare.results import GridResults
from lkd.compare.running import carry_out, count
from lkd.compare.to_wandb import to_wandb


def run(args: list[str]) -> Path:
    """Carries out a comparison.

    Args:
        args: Arguments of the command line after `compare`.

    Returns:
        Path of the report.

    Raises:
        SystemExit: If a run failed (after the others are done and the report is written), or if interrupted.
        ValueError: For a comparison that is not possible; before anything runs.
    """
    given, more = read_options(args)
    grid = chosen(read(given.config, given.folder, tuple(more)), given.seeds)
    unknown = [name for name in given.only or () if name not in grid.methods]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: the methods are {', '.join(grid.methods)}.")
    folder = Path(grid.folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            return _run(grid, folder, given, args)
    except Timeout:
        raise ValueError(
            f"another comparison is at work in {folder}; wait for it, or give --folder."
        ) from None


def _run(grid: RunGrid, folder: Path, given: argparse.Namespace, args: Sequence[str]) -> Path:
    print(
        f"Checking {count(len(grid.methods), 'method')} in {count(len(grid.settings), 'setting')}.",
        flush=True,
    )
    configs = {
        (s, m): parse(grid.arguments(s, m), f"{m}, {s}" if s else m)
        for m in grid.methods
        for s in grid.settings
    }
    jobs = [
        PlannedRun(r, for_run(configs[r.setting, r.method], grid, r), folder / r.folder) for r in grid.runs
    ]
    todo = [] if given.report_only else _todo(jobs, given.only)
    failed = 0
    if todo:
        known = {j.run.method: float(j.result["process_seconds"]) for j in jobs if j.state == "done"}
        threads = given.threads or max(1, (os.cpu_count() or 1) // given.jobs)
        try:
            with _terminated_is_interrupted():
                failed = carry_out(
                    todo, given.jobs, threads, known, look=lambda job: _check_metric(grid, [job])
                )
        except KeyboardInterrupt as interrupt:
            done = sum(job.state == "done" for job in jobs)
            print(
                f"Interrupted: {done} of {len(jobs)} runs are done and stay; the same command goes on.",
                file=sys.stderr,
            )
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            sys.exit(128 + number)  # as a fit that is interrupted: 1 is for a run that failed
    return _report(grid, jobs, folder, args, next(iter(configs.values())), failed)


def _report(
    grid: RunGrid, jobs: Sequence[PlannedRun], folder: Path, args: Sequence[str], config: Config, failed: int
) -> Path:
    results = GridResults(grid, jobs)
    if results.done and grid.metric not in results.all_metrics:
        raise _unmeasured(results)
    path = report.write(results, folder, f"python cli.py compare {shlex.join(args)}")
    options = wandb_options(config)
    if options is not None and results.done:
        to_wandb(results, folder, options)
    print(f"Report: {path}")
    if failed:
        sys.exit(
            f"{count(failed, 'run')} failed; the report has the last lines, and the same command tries again."
        )
    return path


def _check_metric(grid: RunGrid, jobs: Sequence[PlannedRun]) -> None:
    """Refuses a metric that no run has measured, so that a misspelled one is found after the first run."""
    results = GridResults(grid, jobs)
    if not any(f"/{grid.measure}/" in f"/{name}/" for name in results.all_metrics):
        raise _unmeasured(results)


def _unmeasured(results: GridResults) -> ValueError:
    found = ", ".join(sorted(results.all_metrics)) or "none"
    return ValueError(f"metric={results.grid.metric!r} was not measured; there are {found}.")


def _todo(jobs: Sequence[PlannedRun], only: Sequence[str] | None) -> list[PlannedRun]:
    """Returns the jobs that are to be run, and prints which are not run again, and why."""
    wanted = [job for job in jobs if only is None or job.run.method in only]
    states = {job.run: job.state for job in wanted}
    todo = [job for job in wanted if states[job.run] != "done"]
    if kept := len(wanted) - len(todo):
        print(f"{kept} of {len(wanted)} runs are done and are not run again.")
    for state, why in (("changed", "its options have changed"), ("failed", "it failed")):
        for job in todo:
            if states[job.run] == state:
                print(f"{job.run} is run again: {why}.")
    return todo


@contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP stop the runs as Ctrl-C does, instead of leaving them running alone."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]  # as nohup has it
    try:
        before = {number: signal.signal(number, interrupt) for number in numbers}
    except ValueError:  # not in the main thread, where signals do not arrive anyway
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
