"""Execution of runs, several at a time if asked, with their progress printed."""

import time
from collections.abc import Callable, Sequence
from statistics import fmean

from lkd.compare.job import PlannedRun, Running, Start
from lkd.compare.process import start as start_process


class RunProgress:
    """Progress of runs, printed with an estimate of the time that is left.

    Args:
        total: Number of runs.
        jobs: Number of runs at a time.
        known: Seconds that runs of a method took before, for the estimate.
    """

    def __init__(self, total: int, jobs: int, known: dict[str, float]) -> None:
        self.total, self.jobs, self.ended = total, jobs, 0
        self.took = {method: [seconds] for method, seconds in known.items()}

    def tell(
        self,
        running: Running,
        seconds: float,
        failed: str,
        active: Sequence[Running],
        waiting: Sequence[PlannedRun],
    ) -> None:
        """Prints a line for a run that has ended."""
        run, now = running.job.run, time.perf_counter()
        self.took.setdefault(run.method, []).append(seconds)
        self.ended += 1
        begun = [(other.job.run.method, now - other.started) for other in active]
        rest = left(self.took, [job.run.method for job in waiting], begun, self.jobs)
        more = f"; about {span(rest)} left" if waiting or active else ""
        what = f"FAILED: {failed}" if failed else span(seconds)
        print(f"[{self.ended}/{self.total}] {run}: {what}{more}", flush=True)


def carry_out(
    todo: Sequence[PlannedRun],
    jobs: int,
    threads: int,
    known: dict[str, float],
    start: Start = start_process,
    look: Callable[[PlannedRun], None] = lambda job: None,
) -> int:
    """Carries out jobs, and prints a line for each one that ends.

    Args:
        todo: The jobs, in the order in which they start.
        jobs: Number of jobs at a time.
        threads: Threads of each job's process.
        known: Seconds that runs of a method took before.
        start: Starts a process.
        look: Called with every job that is done; an exception from it ends the others.

    Returns:
        Number of jobs that failed.

    Raises:
        KeyboardInterrupt: When interrupted, after the running jobs are stopped; the results of ended jobs
            stay.
    """
    waiting, active, failed = list(todo), list[Running](), 0
    progress = RunProgress(len(todo), jobs, known)
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(Running(waiting.pop(0), threads, jobs, start))
            time.sleep(0.05)
            for running in list(active):
                if (result := running.ended()) is not None:
                    active.remove(running)
                    failed += result["status"] == "failed"
                    why = result["log"][-1] if result["log"] else ""
                    progress.tell(running, result["process_seconds"], why, active, waiting)
                    if result["status"] == "done":
                        look(running.job)
    finally:
        for running in active:
            running.stop()
    return failed


def left(
    took: dict[str, list[float]], waiting: Sequence[str], begun: Sequence[tuple[str, float]], jobs: int
) -> float:
    """Estimates the seconds that are left, from runs of the same method, or else from all runs.

    Args:
        took: Seconds of the runs that have ended, by method.
        waiting: Methods of the runs that have not begun.
        begun: Method of each active run, and the seconds it has taken so far.
        jobs: Number of runs at a time.

    Example:
        >>> left({"A": [10.0], "B": [30.0]}, ["A", "C"], [("B", 10.0)], jobs=2)
        25.0
    """
    anyone = fmean(s for each in took.values() for s in each)
    mean = {method: fmean(seconds) for method, seconds in took.items()}
    rest = sum(mean.get(m, anyone) for m in waiting)
    rest += sum(max(0.0, mean.get(m, anyone) - so_far) for m, so_far in begun)
    return rest / jobs


def count(number: int, of: str) -> str:
    """Writes a number with its noun, in the plural where needed.

    Example:
        >>> count(1, "run"), count(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {of}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """Writes a duration for people.

    Example:
        >>> span(42.4), span(150), span(9000)
        ('42 s', '2 min 30 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
