"""Cameras of an oracle study: students taught by pseudo-labels, dense targets or both, and by labels.

    python benchmarks/traffic_cams.py --seeds 0 1 2                     # six real traffic cameras
    python benchmarks/traffic_cams.py --config configs/cnrpark/oracle.yaml --arms before pseudo-labels supervised
    python benchmarks/traffic_cams.py --config configs/parking/oracle.yaml --arms before pseudo-labels supervised

Runs `fit` with the config once for each arm and seed (what is done is skipped, so an interrupted study goes
on), and writes docs-ready tables of mean and deviation to runs/<folder of the config>_study/.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

from lkd.metrics.tables import print_table, save_table

SUPERVISED = ["--distillation=null", "--data.unlabeled=false"]
ARMS = {
    "before": ["--trainer.max_epochs=0"],
    "pseudo-labels": ["--distillation.hard=1", "--distillation.dense=0"],
    "dense": ["--distillation.hard=0", "--distillation.dense=1"],
    "pseudo + dense": ["--distillation.hard=1", "--distillation.dense=0.5"],
    "supervised": SUPERVISED,
}
METRICS = ("mAP50", "mAP50-95", "Precision", "Recall")


def run(arm: str, seed: int, config: str, folder: Path, extra: list[str]) -> list[dict[str, str]]:
    """The rows of one run's report; runs it if it is not there yet."""
    where = folder / arm.replace(" ", "") / f"seed{seed}"
    table = where / "table.csv"
    if not table.is_file():
        # DetectionReport is the last callback of the config; the teacher is the same in every run
        command = [
            *(sys.executable, "cli.py", "fit", "--config", config, *ARMS[arm], *extra),
            *(
                f"--seed_everything={seed}",
                f"--data.seed={seed}",
                f"--trainer.logger.name={folder.name}_runs",
                "--supervised_twin=false",  # an arm of its own here
            ),
            *(
                f"--trainer.callbacks.folder={where}",
                f"--trainer.callbacks.measure_teacher={arm == 'before'}",
            ),
        ]
        print(f"{arm}, seed {seed}: {' '.join(command)}", flush=True)
        subprocess.run(command, check=True)
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(results: dict[str, list[list[dict[str, str]]]], role: str) -> list[dict[str, object]]:
    """One row an arm: mean and deviation over the seeds, over all cameras."""
    rows: list[dict[str, object]] = []
    for arm, runs in results.items():
        row: dict[str, object] = {"Student": arm, "seeds": len(runs)}
        for metric in METRICS:
            values = [
                float(r[metric]) for run in runs for r in run if r["Role"] == role and r["Camera"] == "all"
            ]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            row[metric] = f"{statistics.mean(values):.3f}{spread}"
        rows.append(row)
    return rows


def by_camera(results: dict[str, list[list[dict[str, str]]]]) -> list[dict[str, object]]:
    """One row a camera: mean mAP50 over the seeds for the teacher and every arm."""
    first = next(iter(results.values()))[0]
    rows = []
    for camera in dict.fromkeys(r["Camera"] for r in first):
        row: dict[str, object] = {"Camera": camera}
        for role, arm, runs in [
            ("Teacher", "teacher", [first]),
            *(("Student", a, r) for a, r in results.items()),
        ]:
            values = [
                float(x["mAP50"]) for run in runs for x in run if (x["Role"], x["Camera"]) == (role, camera)
            ]
            row[arm] = statistics.mean(values) if values else None
        rows.append(row)
    return rows


def main() -> None:
    """Runs what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--config", default="configs/traffic/oracle.yaml")
    parser.add_argument("--folder", type=Path, help="default runs/<folder of the config>_study")
    args, extra = parser.parse_known_args()
    folder = args.folder or Path("runs", f"{Path(args.config).parent.name}_study")
    results = {}
    for arm in args.arms:  # the start is the same for every seed
        seeds = args.seeds[:1] if arm == "before" else args.seeds
        results[arm] = [run(arm, seed, args.config, folder, extra) for seed in seeds]
    table = summary(results, "Student")
    save_table(table, folder / "summary")
    print_table(table, f"{args.config}, mean ± deviation over seeds {args.seeds}")
    cameras = by_camera(results)
    save_table(cameras, folder / "cameras")
    print_table(cameras, "mAP50 by camera")


if __name__ == "__main__":
    main()
