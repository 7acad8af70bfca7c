"""Parts of a page: tables, figures, and the frame around them, in one file that loads nothing."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

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

PARTS = """
{% macro title(text) %}<h1>{{ text }}</h1>{% endmacro %}
{% macro heading(text) %}<h2>{{ text }}</h2>{% endmacro %}
{% macro paragraph(text, kind="") %}
  {%- if text %}<p{% if kind %} class={{ kind }}{% endif %}>{{ text }}</p>{% endif %}
{%- endmacro %}
{% macro bullets(texts) %}
  {%- if texts %}<ul>{% for text in texts %}<li>{{ text }}</li>{% endfor %}</ul>{% endif %}
{%- endmacro %}
{% macro listing(text) %}<pre>{{ text }}</pre>{% endmacro %}
{% macro details(text, parts) %}<details><summary>{{ text }}</summary>{{ parts | join | safe }}</details>{% endmacro %}
{% macro figure(svg, caption) %}<figure>{{ svg | safe }}<figcaption>{{ caption }}</figcaption></figure>{% endmacro %}

{# Rows as a table, whose first column names them; a metric's long name may go on in the next line after a slash. #}
{% macro table(rows, columns, caption, name) -%}
<div class="wide"><table id="{{ name }}"><caption>{{ caption }}</caption><thead><tr>
  {%- for column in columns -%}
    <th scope="col"{% if column.raw %} title="{{ column.raw }}"{% endif %}>
      {{- column.heading.split("/") | join("/<wbr>" | safe) -}}
    </th>
  {%- endfor %}</tr></thead><tbody>
  {%- for row in rows -%}
    <tr><th scope="row">{{ columns[0].show(row) }}</th>
    {%- for column in columns[1:] -%}
      <td{% if column.best(row) %} class=best{% endif %}>{{ column.show(row) }}</td>
    {%- endfor %}</tr>
  {%- endfor %}</tbody></table></div>
{%- endmacro %}

{% macro page(title, parts) -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
{{ parts | join("\n") | safe }}
</body>
</html>
{% endmacro %}
"""
"""`svg` and `parts` are HTML already; everything else is text, and is escaped."""

_made: Any = (
    Environment(autoescape=True, undefined=StrictUndefined).from_string(PARTS, {"style": STYLE}).module
)
title, heading, paragraph, bullets = _made.title, _made.heading, _made.paragraph, _made.bullets
listing, details, figure, table, page = _made.listing, _made.details, _made.figure, _made.table, _made.page


class Column(NamedTuple):
    """Column of a table.

    Attributes:
        heading: Its heading.
        show: Gives the text of a row's cell.
        best: Says whether a row's cell stands out.
        raw: What the heading stands for, such as the name by which a metric is logged.
    """

    heading: str
    show: Callable[[Row], str]
    best: Callable[[Row], bool] = lambda row: False
    raw: str = ""


def cell(value: Any, digits: int = 3) -> str:
    """Formats a number with so many decimals; a dash where there is none.

    Example:
        >>> cell(0.51239), cell(None), cell("C1"), cell(7)
        ('0.512', '-', 'C1', '7')
    """
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
