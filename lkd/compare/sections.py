"""The sections of the report, each as HTML."""

import re
from collections.abc import Callable
from pathlib import Path

from lkd.compare.break_even import break_even, sentences
from lkd.compare.names import CACHES
from lkd.compare.page import Column, bullets, cell, details, figure, heading, paragraph, table
from lkd.compare.pictures import over, over_energy, over_settings
from lkd.compare.results import GridResults
from lkd.compare.spread import client_columns, client_means, spread
from lkd.compare.summary import contestants, megabytes, three_digits, winners, with_deviation
from lkd.metrics.tables import Row

SEEDS = (
    "Lines are means over the seeds, bands their deviation; the axes may begin after the first measurement."
)


def summary_tables(results: GridResults, rows: list[Row], setting: str) -> str:
    """Builds the tables of a setting: what the methods reach, and what it costs; empty where none has run."""
    grid = results.grid
    here = [row for row in rows if row["setting"] == setting]
    if not here:
        return ""
    where = f"{setting}: " if setting else ""

    def best(name: str, rising: bool = False) -> Callable[[Row], bool]:
        found = winners(results, here, name, rising)
        some = len(found) < len(contestants(results, here, name))  # where all are as good nobody stands out
        return lambda row: some and row["method"] in found

    def reached(name: str) -> Column:
        rising = grid.higher_is_better and not name.endswith("/std")
        return Column(results.label(name), lambda row: with_deviation(row, name), best(name, rising), name)

    first = Column("method", lambda row: row["method"])
    metrics = [
        first,
        Column("seeds", lambda row: cell(row["seeds"])),
        *(reached(name) for name in results.metrics),
    ]
    costs = [first, Column("MB", lambda row: megabytes(row["bytes"]), best("bytes"), "bytes")]
    if grid.target is not None:
        costs.append(Column(f"MB to {grid.target:g}", _to_target, best("bytes_to_target"), "bytes_to_target"))
    costs.append(Column("seconds", lambda row: cell(row["seconds"], 1), best("seconds"), "seconds"))
    if any(row["energy_wh"] is not None for row in rows):
        text = "Wh, estimated (codecarbon)"
        costs.append(Column(text, lambda row: cell(row["energy_wh"]), best("energy_wh"), "energy_wh"))
    if any(row["flops"] is not None for row in rows):
        costs.append(Column("GFLOPs (2 per MAC)", lambda row: _giga(row["flops"]), best("flops"), "flops"))
    costs.append(
        Column("weights", lambda row: f"{row['weights']:,.0f}", best("weights"), "weights"),
    )
    text = "peak MB of memory"
    costs.append(
        Column(text, lambda row: cell(row["peak_memory_mb"], 0), best("peak_memory_mb"), "peak_memory_mb")
    )
    return (
        table(
            here,
            metrics,
            f"{where}what they reach, mean ± deviation over the seeds",
            f"results-{as_id(setting)}",
        )
        + table(here, costs, f"{where}what it costs, mean over the seeds", f"costs-{as_id(setting)}")
        + _caches(results, here, where, setting)
    )


def _caches(results: GridResults, here: list[Row], where: str, setting: str) -> str:
    """Builds the table on caches of knowledge; empty where no method has one."""
    users = [row for row in here if any(row[f"cache/{name}"] is not None for name in results.cached)]
    if not users:
        return ""
    columns = [Column("method", lambda row: row["method"])]
    for name in results.cached:
        raw = f"cache/{name}"
        show = _saved(raw) if name == "bytes_saved" else _shown(raw)
        columns.append(Column(CACHES[name], show, raw=raw))
    caption = f"{where}what the caches of knowledge were good for, mean over the seeds"
    return table(users, columns, caption, f"caches-{as_id(setting)}")


def explained(results: GridResults) -> str:
    """Explains the columns of the tables."""
    grid, of = results.grid, results.grid.measure
    others = "".join(f" Of {n}, {m.measure} stands for {of}." for n, m in grid.methods.items() if m.measure)
    return paragraph(
        f"Server's model: -, where there is none. Mean, worst and deviation are over {_how_many(results)}. MB (10^6 bytes) are those of the "
        "tensors that traveled, up and down, of all clients and rounds; baselines have none that count. Seconds and FLOPs are "
        "those of training, one client after the other, without measurements; energy, where it was estimated, is that of "
        f"the whole run. {'More' if grid.higher_is_better else 'Less'} is better, of deviations and costs less; the best of a column among what is no baseline is bold. How a metric is logged "
        f"is shown where the pointer rests on its name, and is its name in the CSV.{others}"
    )


def pictures(results: GridResults, rows: list[Row], folder: Path) -> list[str]:
    """Draws the metric over each cost, and over the settings; also saves PNG and PDF in `folder`."""
    metric = f"The {results.label(results.grid.metric)},"
    parts = [
        heading("Metric against cost"),
        figure(over(results, rows, "bytes", folder), f"{metric} over the bytes that have traveled. {SEEDS}"),
        figure(over(results, rows, "seconds", folder), f"{metric} over the seconds of training. {SEEDS}"),
    ]
    if any(row["flops"] is not None for row in rows):
        text = f"{metric} over the floating-point operations of training. {SEEDS}"
        parts.append(figure(over(results, rows, "flops", folder), text))
    if any(row["energy_wh"] is not None for row in rows):
        parts.append(
            figure(over_energy(results, rows, folder), f"{metric} over the energy that codecarbon estimates.")
        )
    if len(results.grid.settings) > 1:
        parts += [
            heading("Settings"),
            figure(
                over_settings(results, rows, folder),
                f"{metric} over the settings: means over the seeds, bars their deviation.",
            ),
        ]
    return parts


def clients(results: GridResults, folder: Path) -> list[str]:
    """Draws the spread over the clients, and builds the tables client by method and client by part."""
    columns = client_columns(results)
    parts = [heading("Clients")]
    if not columns:
        return [*parts, paragraph("No client was measured.")]
    for place, column in enumerate(columns):
        text = f"The {results.label(column)}: a dot for each client, mean over the seeds."
        parts.append(figure(spread(results, column, folder), text))
        tables = [_client_by_method(results, s, column) for s in results.grid.settings]
        parts += tables if place == 0 else [details(f"Clients by method: {results.label(column)}", tables)]
    by_part = [
        _client_by_part(results, s, m, columns[0])
        for s in results.grid.settings
        for m in results.grid.methods
    ]
    if any(by_part):
        parts.append(details("Clients by part: further figures that the modules log", by_part))
    return parts


def costs(results: GridResults) -> list[str]:
    """Compares the cost of knowledge with that of weights: sentences and a table."""
    rows = break_even(results)
    if not rows:
        return []
    columns = [
        Column("method", lambda row: row["method"]),
        Column("P: values of a client's weights", lambda row: f"{row['weights']:,.0f}"),
        Column("V up", lambda row: _few(row["values_up"])),
        Column("V down", lambda row: _few(row["values_down"])),
        Column("N: public samples at a time", lambda row: cell(row["samples"], 0)),
        Column("cheaper up to N", lambda row: cell(row["break_even"])),
        Column("kB a client and round", lambda row: three_digits(row["bytes_a_turn"] / 1e3)),
        Column("times the bytes of its weights", lambda row: cell(row["of_weights"])),
    ]
    text = (
        "In the same number format and for each direction, predictions of N public samples with V values each are cheaper than "
        "P weights if and only if N V < P. All of it is counted on the models and the tensors of these runs."
    )
    return [
        heading("Break-even: knowledge or weights"),
        bullets(sentences(rows)),
        table(rows, columns, "What a client exchanges", "break-even"),
        paragraph(text),
    ]


def as_id(text: str) -> str:
    """Turns a name into an id for the page."""
    return re.sub(r"[^\w-]+", "-", text) or "all"


def _client_by_method(results: GridResults, setting: str, column: str) -> str:
    means = {key[1:]: v for key, v in client_means(results, column).items() if key[0] == setting}
    if not means:
        return ""
    methods = [m for m in results.grid.methods if any(method == m for method, _ in means)]
    names = _names(results, setting)
    rows = [
        {"client": names[n], **{m: means.get((m, n)) for m in methods}} for n in sorted({n for _, n in means})
    ]
    columns = [Column(name, _shown(name)) for name in ("client", *methods)]
    kind = column.partition("/")[0]
    caption = f"{setting + ': ' if setting else ''}{results.label(column)}, client by method"
    return table(rows, columns, caption, f"{kind}-{as_id(setting)}")


def _client_by_part(results: GridResults, setting: str, method: str, column: str) -> str:
    """Builds a table of the clients' metrics whose names extend this one's, such as one per head."""
    every = [name for name in results.clients[0] if name.startswith(f"{column}_")]
    found = {
        name: {
            key[2]: value
            for key, value in client_means(results, name).items()
            if key[:2] == (setting, method)
        }
        for name in every
    }
    found = {name: of for name, of in found.items() if of}
    if not found:
        return ""
    numbers, names = sorted({number for of in found.values() for number in of}), _names(results, setting)
    rows = [{"client": names[i], **{name: of.get(i) for name, of in found.items()}} for i in numbers]
    columns = [Column("client", lambda row: row["client"])]
    columns += [Column(name.removeprefix(f"{column}_"), _shown(name)) for name in found]
    caption = f"{setting + ', ' if setting else ''}{method}: {results.label(column)}, client by part"
    return table(rows, columns, caption, f"parts-{as_id(setting)}-{as_id(method)}")


def _names(results: GridResults, setting: str) -> dict[int, str]:
    """Returns the clients' names, each with the modalities that the client owns where these are known."""
    rows = [row for row in results.clients if row["setting"] == setting]
    return {
        row["client"]: row["name"] + (f" ({row['modalities']})" if row.get("modalities") else "")
        for row in rows
    }


def _how_many(results: GridResults) -> str:
    """Says how many clients were measured: of a large population not all."""
    most = max((r.get("population", 0) for r in results.done.values()), default=0)
    if most <= results.grid.limit:
        return "the clients"
    return f"{results.grid.limit} of the {most:,} clients, drawn by chance and the same in all runs"


def _to_target(row: Row) -> str:
    if row["bytes_to_target"] is None:
        return "-" if row["reached_target"] is None else "never"
    shown = megabytes(row["bytes_to_target"])
    return shown + (
        f" ({row['reached_target']} of {row['seeds']})" if row["reached_target"] < row["seeds"] else ""
    )


def _giga(value: float | None) -> str:
    return "-" if value is None else three_digits(value / 1e9)


def _few(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _saved(name: str) -> Callable[[Row], str]:
    return lambda row: megabytes(row[name])


def _shown(name: str) -> Callable[[Row], str]:
    return lambda row: cell(row[name])
