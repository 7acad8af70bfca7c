"""Parts of a page: tables, figures, and the frame around them; all in one file, nothing from outside."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from lkd.metrics.tables import Row

STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --paper: #ffffff; --line: #d0d7de; --shade: #f3f5f7; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e6ea; --paper: #14171b; --line: #3a424c; --shade: #1d2228; --bad: #ff8a80; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .4rem 0; font-weight: 600; }
th, td { padding: .25rem .55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th[scope=row], th:first-child, td.text { text-align: left; white-space: normal; min-width: 7rem; }
thead th { background: var(--shade); white-space: normal; vertical-align: bottom; font-weight: 500; max-width: 9rem; }
th[title] { cursor: help; }
tbody th { font-weight: 500; } .best { font-weight: 700; }
.wide { overflow-x: auto; margin: .8rem 0; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; max-width: 46rem; }
figcaption { font-size: .88rem; } .failed { color: var(--bad); }
summary { cursor: pointer; margin: .6rem 0; font-size: .9rem; }
pre { background: var(--shade); padding: .6rem .8rem; overflow-x: auto; font-size: .82rem; }
"""


class Column(NamedTuple):
    """A column of a table: its heading, what a row shows there, whether it stands out, and what the heading stands for."""

    heading: str
    show: Callable[[Row], str]
    best: Callable[[Row], bool] = lambda row: False
    raw: str = ""


def page(title: str, parts: Sequence[str]) -> str:
    """The whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def title(text: str) -> str:
    """Of the page."""
    return f"<h1>{escape(text)}</h1>"


def heading(text: str) -> str:
    """Of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; nothing for no text."""
    if not text:
        return ""
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def bullets(texts: Sequence[str]) -> str:
    """A list of sentences; nothing for none."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def listing(text: str) -> str:
    """Lines as they are."""
    return f"<pre>{escape(text)}</pre>"


def details(text: str, parts: Sequence[str]) -> str:
    """Parts that are folded away."""
    return f"<details><summary>{escape(text)}</summary>{''.join(parts)}</details>"


def figure(svg: str, caption: str) -> str:
    """A picture with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(
    rows: Sequence[Row],
    columns: Sequence[Column],
    caption: str,
    name: str,
) -> str:
    """Rows as a table, whose first column names them.

    Args:
        rows: What is shown.
        columns: How.
        caption: Above it.
        name: Its id.
    """
    head = "".join(f'<th scope="col"{_tooltip(c.raw)}>{_breaking(c.heading)}</th>' for c in columns)
    body = []
    for row in rows:
        first, *rest = columns
        cells = [f"<td{' class=best' if c.best(row) else ''}>{escape(c.show(row))}</td>" for c in rest]
        body.append(f'<tr><th scope="row">{escape(first.show(row))}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="wide"><table id="{escape(name)}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _tooltip(text: str) -> str:
    return f' title="{escape(text)}"' if text else ""


def _breaking(text: str) -> str:
    """Metrics have long names; they may go on in the next line after a slash."""
    return escape(text).replace("/", "/<wbr>")


def cell(value: Any, digits: int = 3) -> str:
    """A number with so many decimals; a dash where there is none.

    Example:
        >>> cell(0.51239), cell(None), cell("C1"), cell(7)
        ('0.512', '-', 'C1', '7')
    """
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
