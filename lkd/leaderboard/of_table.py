"""A study of one run's table: the arms of `offload`, the stages of `compress`."""

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence

from lkd.leaderboard.origin import Origin
from lkd.leaderboard.study import Study
from lkd.metrics.direction import rises
from lkd.metrics.tables import Row


def study_of_table(
    rows: Sequence[Row],
    method: Callable[[Row], str | None],
    *,
    metric: str,
    title: str,
    verb: str,
    args: Sequence[str],
    seed: int,
    made: Origin,
    baselines: Sequence[str] = (),
) -> Study:
    """Makes a study of a table of one run.

    Args:
        rows: Rows of the table; cells that are no numbers are left out.
        method: Names a row's method; None leaves the row out. A name that comes again gets a number.
        metric: Column that is compared.
        title: A few words.
        verb: Verb of the command line that made the table.
        args: Arguments after the verb.
        seed: Seed of the run.
        made: What it was measured with.
        baselines: Methods that are yardsticks and cannot win.

    Example:
        >>> rows = [{"stage": "int8", "acc": 0.5, "MB": 2.0, "kept": "yes"}, {"stage": "half", "acc": 0.4, "MB": None}]
        >>> here = Origin("0.2.0", None, "2.9", "a processor", "2026-01-01")
        >>> study = study_of_table(
        ...     rows, lambda row: row["stage"], metric="acc", title="", verb="compress", args=[], seed=0, made=here
        ... )
        >>> study.rows[0]
        {'setting': '', 'method': 'int8', 'seeds': 1, 'acc': 0.5, 'MB': 2.0}
    """
    columns = [name for name in rows[0] if any(_number(row.get(name)) is not None for row in rows)]
    named = [(name, row) for row in rows if (name := method(row)) is not None]
    seen = Counter[str]()
    for place, (name, row) in enumerate(named):  # arms of a user's own may have one name
        seen[name] += 1
        named[place] = (f"{name} ({seen[name]})" if seen[name] > 1 else name), row
    return Study(
        title=title,
        about="",
        command=shlex.join(["python", "cli.py", verb, *args]),
        metric=metric,
        higher_is_better=rises(metric),
        baselines=tuple(baselines),
        seeds=(seed,),
        origins=(made,),
        rows=tuple(
            {"setting": "", "method": name, "seeds": 1, **{c: _number(row.get(c)) for c in columns}}
            for name, row in named
        ),
    )


def _number(cell: object) -> float | None:
    """Returns a finite number of a cell; None for anything else."""
    return float(cell) if isinstance(cell, int | float) and math.isfinite(cell) else None
