"""A test of which layers int8 hurts: each group of layers is quantized alone."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lkd.edge.compress.quantize.int8 import Calibrated
from lkd.edge.compress.quantize.layers import groups
from lkd.edge.compress.step import Job, Stage
from lkd.metrics.tables import Row, print_table, save_table


def sensitivity(made: Sequence[Calibrated], stage: Stage, job: Job) -> list[Row]:
    """Measures each group alone, prints a table, and writes `sensitivity.csv` and `.md` beside the files.

    Args:
        made: Calibrated files of the stage.
        stage: The float stage.
        job: Job of the step.

    Returns:
        Rows with the group, its number of nodes, and how much worse the metric is than the float stage's with
        this group alone in int8; the worst first.
    """
    base = job.dense.drop(stage.files, job.parent.files)
    parts = [groups(one.layers, one.nodes) for one in made]
    rows: list[Row] = []
    for group in dict.fromkeys(name for part in parts for name in part):
        with TemporaryDirectory(prefix=".group_", dir=job.folder) as folder:
            files = [Path(folder, path.name) for path in stage.files]
            for one, part, path in zip(made, parts, files, strict=True):
                one.write(path, part.get(group, []))
            lost = job.dense.drop(files, job.parent.files) - base
        count = sum(len(part.get(group, [])) for part in parts)
        rows.append({"layers": group or "(input)", "nodes": count, "lost alone": f"{lost:+.4f}"})
    rows.sort(key=lambda row: -float(row["lost alone"]))
    save_table(rows, job.folder / "sensitivity")
    print_table(
        rows,
        "What int8 costs, one group of layers alone; keep_float=[...] leaves those that cost most as they are",
    )
    return rows
