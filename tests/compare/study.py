"""Comparisons whose runs are made up, for tests of everything after the runs."""

import json
from pathlib import Path

from lkd.compare.grid import Method, RunGrid
from lkd.compare.job import RESULT, PlannedRun
from lkd.compare.resolve import digest, save
from lkd.compare.results import GridResults

EXCHANGED = {
    "turns": 8.0,
    "told": 0.0,
    "told_samples": 0.0,
    "told_times": 0.0,
    "sent": 0.0,
    "sent_samples": 0.0,
}


def a_grid(folder, **changes):
    """Two methods and a baseline, two seeds, one setting, accuracy on the shared data."""
    given = {
        "base": "base.yaml",
        "methods": {
            "alone": Method(overrides=("--model.algorithm=Local",), baseline=True),
            "FedAvg": Method(),
            "FedMD": Method(overrides=("--model.algorithm=FedMD",)),
        },
        "title": "A study",
        "seeds": (0, 1),
        "metric": "shared/test/acc/mean",
        "target": 0.6,
        "folder": str(folder),
    }
    return RunGrid(**{**given, **changes})


def a_result(values, bytes_a_round=1000, exchanged=None, metric="test/acc", **changes):
    """What `TradeoffLog` writes of a federation of two clients: these values after round 1, 2, ..."""
    curve = [
        {
            "round": i,
            "bytes_down": i * bytes_a_round / 2,
            "bytes_up": i * bytes_a_round / 2,
            "seconds": 0.5 * i,
            "flops": 1e9 * i,
            "metrics": {
                **{
                    f"shared/{metric}/{which}": v + d
                    for which, d in (("mean", 0.0), ("worst", -0.1), ("best", 0.1))
                },
                **{
                    f"clients/{metric}/{which}": v + d
                    for which, d in (("mean", 0.1), ("worst", -0.2), ("best", 0.2))
                },
                f"clients/{metric}/std": 0.05,
            },
        }
        for i, v in enumerate(values, 1)
    ]
    clients = [
        {
            "client": c,
            "name": f"C{c + 1}",
            "samples": 10 + c,
            "clients": {metric: values[-1] + 0.1 * c, f"{metric}_phone": 0.25 + 0.5 * c},
            "shared": {metric: values[-1] - 0.1 * c, f"{metric}_phone": 0.5 + 0.25 * c},
        }
        for c in range(2)
    ]
    last = curve[-1]
    return {
        "federation": True,
        "algorithm": "FedAvg",
        "weights": 4074.0,
        **{name: last[name] for name in ("bytes_down", "bytes_up", "seconds", "flops")},
        "energy_wh": None,
        "peak_memory_mb": 512.5,
        "exchanged": {**EXCHANGED, **(exchanged or {})},
        "curve": curve,
        "clients": clients,
        "final": {},
        **changes,
    }


def jobs_of(grid):
    return [
        PlannedRun(run, {"trainer": {}, "run": str(run)}, Path(grid.folder) / run.folder) for run in grid.runs
    ]


def write(job, result, status="done", log=()):
    """Puts a result where a run would."""
    save(job.config, job.folder)
    about = {
        "status": status,
        "digest": digest(job.config),
        "code": 0,
        "process_seconds": 9.0,
        "threads": 1,
        "jobs": 2,
    }
    (job.folder / RESULT).write_text(json.dumps({**about, "log": list(log), **result}))


def results_of(grid, make):
    """Results of a grid; `make(run)` gives the result of a run, or None for one that is missing."""
    jobs = jobs_of(grid)
    for job in jobs:
        result = make(job.run)
        if result is not None:
            write(job, result)
    return GridResults(grid, jobs)


VALUES = {"alone": (0.3, 0.4), "FedAvg": (0.5, 0.7), "FedMD": (0.55, 0.61)}
BYTES = {"alone": 32, "FedAvg": 65184, "FedMD": 16000}
PREDICTIONS = {
    "told": 8000.0,
    "told_samples": 800.0,
    "told_times": 8.0,
    "sent": 8000.0,
    "sent_samples": 800.0,
}


def usual(run):
    """Of every run; the second seed is .02 better."""
    values = [v + 0.02 * run.seed for v in VALUES[run.method]]
    return a_result(values, BYTES[run.method], PREDICTIONS if run.method == "FedMD" else None)
