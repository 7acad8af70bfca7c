"""Means and deviations over the seeds, and sentences on them."""

import math
from statistics import fmean, stdev

from lkd.compare.holes import holes
from lkd.compare.results import GridResults
from lkd.metrics.tables import Row

COSTS = ("bytes", "seconds", "flops", "energy_wh", "bytes_to_target", "weights", "peak_memory_mb")


def summarize(results: GridResults) -> list[Row]:
    """Summarizes runs in a row for each setting and method that has any.

    Returns:
        `setting`, `method`, `seeds` (how many are done), every metric with its sample deviation
        (`<name> deviation`; None for one seed), the means of the costs and of what is known of caches, and
        `reached_target` (in how many seeds). A metric that is not finite in some seed has no mean. A cost
        that only some runs have is the mean of those that have it.
    """
    grid, runs, rows = results.grid, results.runs, []
    for setting in grid.settings:
        for method in grid.methods:
            mine = [row for row in runs if (row["setting"], row["method"]) == (setting, method)]
            if not mine:
                continue
            row: Row = {"setting": setting, "method": method, "seeds": len(mine)}
            for name in results.metrics:
                found = [r[name] for r in mine if r[name] is not None]
                whole = len(found) == len(mine)
                row[name] = fmean(found) if whole else None
                row[f"{name} deviation"] = stdev(found) if whole and len(found) > 1 else None
            for name in (*COSTS, *(f"cache/{name}" for name in results.cached)):
                found = [r[name] for r in mine if r[name] is not None]
                row[name] = fmean(found) if found else None
            row["reached_target"] = sum(r["bytes_to_target"] is not None for r in mine)
            if grid.target is None or grid.methods[method].baseline:
                row["reached_target"] = None
            rows.append(row)
    return rows


def in_words(results: GridResults, rows: list[Row]) -> list[str]:
    """Names the best method by each metric in every setting, and the one with the fewest bytes to the target.

    Args:
        results: Results of the runs.
        rows: `summarize` of them.
    """
    grid, said = results.grid, []
    for setting in grid.settings:
        where = f"{setting}: " if setting else ""
        here = [row for row in rows if row["setting"] == setting]
        # a low or high deviation over clients is no win by itself
        kinds = [name for name in results.metrics if not name.endswith("/std")]
        said += [where + _winner(results, here, name) for name in kinds if contestants(results, here, name)]
        contest = contestants(results, here, grid.metric)
        if grid.target is not None and (reached := [row for row in contest if row["reached_target"]]):
            cheap = ordered(reached, "bytes_to_target", False)
            first = cheap[0]
            others = [
                f"{r['method']} {times(r['bytes_to_target'] / first['bytes_to_target'])}"
                for r in cheap[1:]
                if first["bytes_to_target"]  # nothing is so many times nothing
            ]
            more = f" ({', '.join(others)} as many)" if others else ""
            never = [row["method"] for row in contest if not row["reached_target"]]
            end = f"; {', '.join(never)} did not reach it" if never else ""
            few = size(first["bytes_to_target"])
            some = [row for row in cheap if row["reached_target"] < row["seeds"]]
            partly = "".join(f"; {r['method']} in {r['reached_target']} of {r['seeds']} seeds" for r in some)
            said.append(
                f"{where}{first['method']} reaches {grid.target:g} with the fewest bytes, {few}{more}{partly}{end}."
            )
        elif grid.target is not None and contest:
            said.append(f"{where}No method reached {grid.target:g}.")
    return said + holes(results)


def contestants(results: GridResults, rows: list[Row], name: str) -> list[Row]:
    """Returns the rows that can win by a column: those with a figure there that are no baselines."""
    return [row for row in rows if row[name] is not None and not results.grid.methods[row["method"]].baseline]


def winners(results: GridResults, rows: list[Row], name: str, rising: bool) -> list[str]:
    """Returns the methods with the best figure of a column; more than one where figures are equal.

    Equal are figures that differ by the rounding of means in float32 alone.
    """
    contest = contestants(results, rows, name)
    if not contest:
        return []
    best = (max if rising else min)(row[name] for row in contest)
    return [row["method"] for row in contest if math.isclose(row[name], best, rel_tol=1e-6, abs_tol=1e-9)]


def _winner(results: GridResults, here: list[Row], name: str) -> str:
    best = winners(results, here, name, results.grid.higher_is_better)
    figure = next(with_deviation(row, name) for row in here if row["method"] == best[0])
    yardsticks = [
        f"{row['method']} {with_deviation(row, name)}"
        for row in here
        if results.grid.methods[row["method"]].baseline and row[name] is not None
    ]
    beside = f" (baselines: {', '.join(yardsticks)})" if yardsticks else ""
    verb = "has" if len(best) == 1 else "have"
    return f"{' and '.join(best)} {verb} the best {results.label(name)}: {figure}{beside}."


def ordered(rows: list[Row], name: str, descending: bool) -> list[Row]:
    """Sorts rows by a column."""
    return sorted(rows, key=lambda row: row[name], reverse=descending)


def with_deviation(row: Row, name: str) -> str:
    """Writes a mean with its deviation, three decimals each.

    Example:
        >>> with_deviation({"acc": 0.51, "acc deviation": 0.004}, "acc"), with_deviation({"acc": None}, "acc")
        ('0.510 ± 0.004', '-')
    """
    if row[name] is None:
        return "-"
    spread = row.get(f"{name} deviation")
    return f"{row[name]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def times(factor: float) -> str:
    """Puts a factor into words.

    Example:
        >>> times(2.04), times(31.4)
        ('2.0 times', '31 times')
    """
    return f"{factor:.1f} times" if factor < 10 else f"{factor:.0f} times"


def megabytes(number: float | None) -> str:
    """Writes bytes in MB (10^6), with three digits.

    Example:
        >>> megabytes(1234567), megabytes(None), megabytes(144)
        ('1.23', '-', '0.000144')
    """
    return "-" if number is None else three_digits(number / 1e6)


def size(number: float) -> str:
    """Writes bytes with a unit, for people.

    Example:
        >>> size(144), size(104160), size(1234567), size(5e9)
        ('144 B', '104 kB', '1.23 MB', '5 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{three_digits(number / factor)} {unit}"
    return f"{three_digits(number)} B"


def three_digits(number: float) -> str:
    """Writes three significant digits without an exponent.

    Example:
        >>> three_digits(0.0012345), three_digits(12345.6), three_digits(0.0)
        ('0.00123', '12346', '0')
    """
    if number >= 100 or number == 0:
        return f"{number:.0f}"
    return f"{float(f'{number:.3g}'):f}".rstrip("0").rstrip(".") if number < 1e-3 else f"{number:.3g}"
