"""Carries runs out, several at a time if asked, and says how far it is."""

import time
from collections.abc import Callable, Sequence
from statistics import fmean

from lkd.compare.job import Job, Running, Start
from lkd.compare.process import start as start_process


class Progress:
    """What is told while runs go on.

    Args:
        total: Number of runs.
        jobs: How many at a time.
        known: Seconds that a method's runs took before, for the estimate of the time that is left.
    """

    def __init__(self, total: int, jobs: int, known: dict[str, float]) -> None:
        self.total, self.jobs, self.ended = total, jobs, 0
        self.took = {method: [seconds] for method, seconds in known.items()}

    def tell(
        self, running: Running, seconds: float, failed: str, active: Sequence[Running], waiting: Sequence[Job]
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
    todo: Sequence[Job],
    jobs: int,
    threads: int,
    known: dict[str, float],
    start: Start = start_process,
    look: Callable[[Job], None] = lambda job: None,
) -> int:
    """Carries jobs out.

    Args:
        todo: In this order.
        jobs: How many at a time.
        threads: Of each.
        known: Seconds that a method's runs took before.
        start: Starts a process.
        look: Sees every run that is done; what it raises ends the others.

    Returns:
        How many failed.

    Raises:
        KeyboardInterrupt: When interrupted, after the runs under way have been stopped; what has ended stays.
    """
    waiting, active, failed = list(todo), list[Running](), 0
    progress = Progress(len(todo), jobs, known)
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
    """Seconds that are left, from what runs of the same method, or of any, took.

    Args:
        took: Seconds of the runs that have ended, by method.
        waiting: Methods of those that have not begun.
        begun: Method and seconds so far of those under way.
        jobs: How many run at a time.

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
    """So many of something.

    Example:
        >>> count(1, "run"), count(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {of}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """Seconds for people.

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
