"""The sections of the report, each as HTML."""

import re

from lkd.compare.break_even import break_even, sentences
from lkd.compare.page import Column, bullets, cell, details, figure, heading, paragraph, table
from lkd.compare.pictures import over, over_energy, over_settings
from lkd.compare.results import Results
from lkd.compare.spread import client_columns, client_means, spread
from lkd.compare.summary import megabytes, ordered, three_digits, with_deviation
from lkd.metrics.tables import Row

SEEDS = "Lines are means over the seeds, bands their deviation."
WHOSE = {
    "shared": "each client's model on the shared data",
    "clients": "each client's model on the client's own data",
}


def summary_table(results: Results, rows: list[Row], setting: str) -> str:
    """The methods of a setting; nothing where none has run."""
    grid = results.grid
    here = [row for row in rows if row["setting"] == setting]
    if not here:
        return ""
    columns = [Column("method", lambda row: row["method"]), Column("seeds", lambda row: cell(row["seeds"]))]
    columns += [Column(name, lambda row, name=name: with_deviation(row, name)) for name in results.metrics]  # type: ignore[misc]
    columns.append(Column("MB", lambda row: megabytes(row["bytes"])))
    if grid.target is not None:
        columns.append(Column(f"MB to {grid.target:g}", _to_target))
    columns.append(Column("seconds", lambda row: cell(row["seconds"], 1)))
    if any(row["energy_wh"] is not None for row in rows):
        columns.append(Column("Wh, estimated (codecarbon)", lambda row: cell(row["energy_wh"])))
    if any(row["flops"] is not None for row in rows):
        columns.append(Column("GFLOPs (2 per MAC)", lambda row: _giga(row["flops"])))
    columns.append(Column("weights", lambda row: f"{row['weights']:,.0f}"))
    columns.append(Column("peak MB of memory", lambda row: cell(row["peak_memory_mb"], 0)))
    contest = [
        row for row in here if not grid.methods[row["method"]].baseline and row[grid.metric] is not None
    ]
    best = [row["method"] for row in ordered(contest, grid.metric, grid.higher_is_better)[:1]]
    caption = f"{setting + ': ' if setting else ''}mean ± deviation over the seeds"
    return table(here, columns, caption, f"results-{as_id(setting)}", lambda row: row["method"] in best)


def explained(results: Results) -> str:
    """What the columns are."""
    grid, of = results.grid, results.grid.measure
    others = "".join(f" Of {n}, {m.measure} stands for {of}." for n, m in grid.methods.items() if m.measure)
    return paragraph(
        f"{of} is that of the server's model on the shared data (-: there is none), shared/{of} that of {WHOSE['shared']}, "
        f"clients/{of} that of {WHOSE['clients']}; mean, worst and std are over {_how_many(results)}. MB (10^6 bytes) are those of the "
        "tensors that travelled, up and down, of all clients and rounds; baselines have none that count. Seconds and FLOPs are "
        "those of training, one client after the other, without measurements; energy, where it was estimated, is that of "
        f"the whole run. {'More' if grid.higher_is_better else 'Less'} is better; the row of the best that is no baseline is bold.{others}"
    )


def pictures(results: Results, rows: list[Row]) -> list[str]:
    """The metric over all that it costs, and over the settings."""
    metric = results.grid.metric
    parts = [
        heading("Metric against cost"),
        figure(over(results, rows, "bytes"), f"{metric} over the bytes that have travelled. {SEEDS}"),
        figure(over(results, rows, "seconds"), f"{metric} over the seconds of training. {SEEDS}"),
    ]
    if any(row["flops"] is not None for row in rows):
        text = f"{metric} over the floating-point operations of training. {SEEDS}"
        parts.append(figure(over(results, rows, "flops"), text))
    if any(row["energy_wh"] is not None for row in rows):
        parts.append(
            figure(over_energy(results, rows), f"{metric} over the energy that codecarbon estimates.")
        )
    if len(results.grid.settings) > 1:
        parts += [
            heading("Settings"),
            figure(
                over_settings(results, rows),
                f"{metric} over the settings: means over the seeds, bars their deviation.",
            ),
        ]
    return parts


def clients(results: Results) -> list[str]:
    """The spread over the clients, and tables: client by method, and client by part."""
    columns = client_columns(results)
    parts = [heading("Clients")]
    if not columns:
        return [*parts, paragraph("No client was measured.")]
    for place, column in enumerate(columns):
        text = f"{results.grid.measure} of {WHOSE[column.partition('/')[0]]}, mean over the seeds."
        parts.append(figure(spread(results, column), text))
        tables = [_client_by_method(results, s, column) for s in results.grid.settings]
        parts += tables if place == 0 else [details(f"Clients by method: {column}", tables)]
    by_part = [
        _client_by_part(results, s, m, columns[0])
        for s in results.grid.settings
        for m in results.grid.methods
    ]
    if any(by_part):
        parts.append(details("Clients by part: further figures that the modules log", by_part))
    return parts


def costs(results: Results) -> list[str]:
    """The break-even of knowledge and weights."""
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
    """A name as an id in the page."""
    return re.sub(r"[^\w-]+", "-", text) or "all"


def _client_by_method(results: Results, setting: str, column: str) -> str:
    means = {key[1:]: v for key, v in client_means(results, column).items() if key[0] == setting}
    if not means:
        return ""
    methods = [m for m in results.grid.methods if any(method == m for method, _ in means)]
    names = _names(results, setting)
    rows = [
        {"client": names[n], **{m: means.get((m, n)) for m in methods}} for n in sorted({n for _, n in means})
    ]
    columns = [Column(name, lambda row, name=name: cell(row[name])) for name in ("client", *methods)]  # type: ignore[misc]
    kind = column.partition("/")[0]
    caption = f"{setting + ': ' if setting else ''}{column}, client by method"
    return table(rows, columns, caption, f"{kind}-{as_id(setting)}")


def _client_by_part(results: Results, setting: str, method: str, column: str) -> str:
    """Client by the metrics whose names go on where this one's ends, such as those of each head or modality."""
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
    columns += [
        Column(name.removeprefix(f"{column}_"), lambda row, name=name: cell(row[name]))  # type: ignore[misc]
        for name in found
    ]
    caption = f"{setting + ', ' if setting else ''}{method}: {column}, client by part"
    return table(rows, columns, caption, f"parts-{as_id(setting)}-{as_id(method)}")


def _names(results: Results, setting: str) -> dict[int, str]:
    """Of the clients, with the modalities that they own where these are known."""
    rows = [row for row in results.clients if row["setting"] == setting]
    return {
        row["client"]: row["name"] + (f" ({row['modalities']})" if row.get("modalities") else "")
        for row in rows
    }


def _how_many(results: Results) -> str:
    """The clients that were measured, which of a large population are not all."""
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
