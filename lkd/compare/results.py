"""Results as tables: one row per run, per point of a curve, or per client."""

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lkd.compare.grid import Run, RunGrid
from lkd.compare.job import PlannedRun
from lkd.compare.names import CACHES, readable
from lkd.metrics.tables import Row

Result = dict[str, Any]
WHICH = ("mean", "worst", "std")


class GridResults:
    """Results of a comparison, of the runs that are done with their present configuration.

    Args:
        grid: The comparison.
        jobs: All its runs.

    Attributes:
        done: Result of each such run, in order.
        states: State of every run.
        failed: The last lines of the log of each run that failed.
    """

    def __init__(self, grid: RunGrid, jobs: Sequence[PlannedRun]) -> None:
        self.grid = grid
        self.states = {job.run: job.state for job in jobs}
        self.done = {job.run: job.result for job in jobs if self.states[job.run] == "done"}
        self.failed = {job.run: job.result["log"] for job in jobs if self.states[job.run] == "failed"}

    @cached_property
    def metrics(self) -> list[str]:
        """The compared metric, and the same of the server's model and of the clients, where measured."""
        of = self.grid.measure
        names = [self.grid.metric, of, f"shared/{of}/mean"]
        names += [f"clients/{of}/{which}" for which in WHICH]
        if not self.federated:  # one model serves everybody
            names = names[:2]
        found = set(self.all_metrics)
        return [n for n in dict.fromkeys(names) if n in found or n == self.grid.metric]

    def label(self, name: str) -> str:
        """Puts a metric's name into words."""
        return readable(name, self.federated)

    @property
    def federated(self) -> bool:
        """Whether any of the runs trains a federation."""
        return any(result["federation"] for result in self.done.values())

    @cached_property
    def cached(self) -> list[str]:
        """Known figures of caches of knowledge, see `lkd.federated.protocol.cache_use.CacheUse`."""
        found = {name for result in self.done.values() for name in result.get("cache", {})}
        return [name for name in CACHES if name in found]

    @cached_property
    def all_metrics(self) -> list[str]:
        """Every metric that any run has."""
        return list(dict.fromkeys(name for run in self.done for name in self.values(run)))

    @cached_property
    def runs(self) -> list[Row]:
        """A row for each run that is done."""
        rows = []
        for run, result in self.done.items():
            of, total = self.values(run), result["bytes_down"] + result["bytes_up"]
            rows.append(
                {
                    **_names(run),
                    **{name: of.get(name) for name in self.metrics},
                    "rounds": result["curve"][-1]["round"] if result["curve"] else None,
                    "bytes": None if self.is_baseline(run) else total,
                    "seconds": result["seconds"],
                    "flops": result["flops"],
                    "energy_wh": result["energy_wh"],
                    "bytes_to_target": None if self.is_baseline(run) else self.to_target(run),
                    "weights": result["weights"],
                    "peak_memory_mb": result["peak_memory_mb"],
                    "process_seconds": result["process_seconds"],
                    **{f"cache/{name}": result.get("cache", {}).get(name) for name in self.cached},
                }
            )
        return rows

    @cached_property
    def curves(self) -> list[Row]:
        """A row for each measurement of each run."""
        return [
            {
                **_names(run),
                "round": point["round"],
                "bytes_down": point["bytes_down"],
                "bytes_up": point["bytes_up"],
                "bytes": None if self.is_baseline(run) else point["bytes_down"] + point["bytes_up"],
                "seconds": point["seconds"],
                "flops": point["flops"],
                **{name: self.read(run, point["metrics"]).get(name) for name in self.metrics},
            }
            for run, result in self.done.items()
            for point in result["curve"]
        ]

    @cached_property
    def clients(self) -> list[Row]:
        """A row for each client of each run, with everything that was measured of it."""
        rows = []
        for run, result in self.done.items():
            for client in result["clients"]:
                found = {f"{k}/{n}": v for k in ("clients", "shared") for n, v in client.get(k, {}).items()}
                facts = {name: client[name] for name in ("client", "name", "samples")}
                if "modalities" in client:
                    facts["modalities"] = " + ".join(client["modalities"])
                rows.append({**_names(run), **facts, **self.read(run, found)})
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return [{name: row.get(name) for name in columns} for row in rows]

    def values(self, run: Run) -> dict[str, float | None]:
        """Returns all metrics of a run at its end; the test after the fit has the last word."""
        result = self.done[run]
        last = result["curve"][-1]["metrics"] if result["curve"] else {}
        return self.read(run, {**last, **result["final"]})

    def read(self, run: Run, metrics: dict[str, float | None]) -> dict[str, float | None]:
        """Returns metrics of a run by the names that are compared; a value that is not finite becomes None.

        Without a federation, a run's one model counts as the model of every client.
        """
        found = {n: v if v is not None and math.isfinite(v) else None for n, v in metrics.items()}
        if measure := self.grid.methods[run.method].measure:
            for name, value in list(found.items()):
                if match := re.fullmatch(rf"((?:\w+/)?){re.escape(measure)}((?:/\w+)?)", name):
                    found[match[1] + self.grid.measure + match[2]] = value
        if not self.done[run]["federation"]:
            of = self.grid.measure
            found |= {f"shared/{of}/{which}": found[of] for which in ("mean", "worst") if of in found}
        return found

    def to_target(self, run: Run) -> float | None:
        """Returns the bytes that had traveled when the metric first reached the target; None if never."""
        for point in self.done[run]["curve"]:
            value = self.read(run, point["metrics"]).get(self.grid.metric)
            if value is not None and self.reaches(value):
                return float(point["bytes_down"] + point["bytes_up"])
        return None

    def reaches(self, value: float) -> bool:
        """Tells whether a value is as good as the target."""
        target = self.grid.target
        return target is not None and (value >= target if self.grid.higher_is_better else value <= target)

    def is_baseline(self, run: Run) -> bool:
        """Tells whether the run's method is a baseline, whose bytes do not count."""
        return self.grid.methods[run.method].baseline


def _names(run: Run) -> Row:
    return {"setting": run.setting, "method": run.method, "seed": run.seed}
