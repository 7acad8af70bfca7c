"""Sentences on metrics that are not finite: a mean over the rest would praise a method for what it broke."""

from lkd.compare.results import GridResults


def holes(results: GridResults) -> list[str]:
    """Writes a sentence for each method and setting with seeds or clients whose metric is not finite.

    A metric that a method cannot have, such as that of a server's model, is not reported.

    Args:
        results: Results of the runs.
    """
    grid, said = results.grid, []
    kinds = [f"{kind}/{grid.measure}" for kind in ("shared", "clients")]
    for setting in grid.settings:
        for method in grid.methods:
            who = f"{setting}: {method}" if setting else method
            runs = [run for run in results.done if (run.setting, run.method) == (setting, method)]
            if lost := sum(results.values(run).get(grid.metric, 0.0) is None for run in runs):
                said.append(
                    f"{who}: {lost} of {len(runs)} seeds ended without a finite {grid.metric}, so it has no mean."
                )
            mine = [r for r in results.clients if (r["setting"], r["method"]) == (setting, method)]
            for name in kinds:
                known = [row.get(name) is not None for row in mine]
                if any(known) and not all(known):
                    said.append(
                        f"{who}: {known.count(False)} of {len(known)} figures of {name} (a client and seed) are missing or not "
                        "finite, and in no mean over clients."
                    )
    return said
