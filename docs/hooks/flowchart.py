"""Draws the Mermaid graphs of the docs as SVG, so that they are seen without a network or a script.

What is understood is what the docs use: `graph TD` or `LR`, nodes `a`, `a[text]`, `a(text)` and `a{text}` (a
question), and arrows `a --> b` and `a -->|text| b`. Anything else is refused, so that no picture is half drawn. On a
forge's own pages the same source is drawn by Mermaid.
"""

import re
from dataclasses import dataclass, field
from html import escape

import networkx as nx

FENCE = re.compile(r"^```mermaid\n(.*?)^```", flags=re.M | re.S)
NODE = r"(\w+)(?:\[\"?([^\]\"]+)\"?\]|\(\"?([^)\"]+)\"?\)|\{\"?([^}\"]+)\"?\})?"
ARROW = re.compile(rf"{NODE}(?:\s*-->\s*(?:\|\"?([^|\"]+)\"?\|\s*)?{NODE})?$")
WIDTH, LINE, GAP = 7.2, 16, 26  # of a letter, of a line of text, between nodes


@dataclass
class Graph:
    """A graph as its source says it.

    Attributes:
        across: Whether it runs from left to right.
        texts: Lines of each node.
        questions: Nodes that are questions.
        arrows: From, to, and what is written beside.
    """

    across: bool
    texts: dict[str, list[str]] = field(default_factory=dict)
    questions: set[str] = field(default_factory=set)
    arrows: list[tuple[str, str, str]] = field(default_factory=list)


def drawn(markdown: str) -> str:
    """Returns a page's text with an SVG in the place of each Mermaid block."""
    return FENCE.sub(lambda found: svg(parsed(found[1])), markdown)


def parsed(source: str) -> Graph:
    """Reads the source of a graph.

    Raises:
        ValueError: For a line that is not understood.
    """
    first, *lines = [line.strip() for line in source.strip().splitlines()]
    if first not in ("graph TD", "graph LR"):
        raise ValueError(f"The graph begins with {first!r}; 'graph TD' and 'graph LR' can be drawn.")
    graph = Graph(first.endswith("LR"))
    for line in filter(None, lines):
        found = ARROW.match(line)
        if not found:
            raise ValueError(f"{line!r} in a graph is neither a node nor an arrow that can be drawn.")
        source_id, *_, label, end = found.groups()[:6]
        for name, *shapes in (found.groups()[:4], found.groups()[5:]):
            if name:
                _add(graph, name, *shapes)
        if end:
            graph.arrows.append((source_id, end, label or ""))
    return graph


def _add(graph: Graph, name: str, box: str | None, round_: str | None, question: str | None) -> None:
    text = box or round_ or question
    if text or name not in graph.texts:
        graph.texts[name] = re.split(r"<br\s*/?>", text or name)
    if question:
        graph.questions.add(name)


def svg(graph: Graph) -> str:
    """Draws a graph in rows, each node below all that point to it."""
    sizes = {
        n: (max(map(len, t)) * WIDTH + 18, len(t) * LINE + 12) for n, t in graph.texts.items()
    }  # width and height of a node
    at = _places(graph, sizes)
    parts = [_arrow(graph, arrow, at, sizes) for arrow in graph.arrows]
    parts += [_node(graph, name, at[name], sizes[name]) for name in graph.texts]
    width = max(x + sizes[n][0] / 2 for n, (x, _) in at.items()) + 4
    height = max(y + sizes[n][1] / 2 for n, (_, y) in at.items()) + 4
    head = (
        f'<svg class="flowchart" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width: {width:.0f}px" xmlns="http://www.w3.org/2000/svg">'
    )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    )
    tip += '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker>'
    return "\n".join([head, f"<defs>{tip}</defs>", *parts, "</svg>"]).replace("\n\n", "\n")


def _places(graph: Graph, sizes: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The middle of each node: rows by the longest way to a node, in a row by where its arrows come from."""
    net = nx.DiGraph()
    net.add_nodes_from(graph.texts)
    net.add_edges_from((a, b) for a, b, _ in graph.arrows)
    _cut_circles(net)
    rows = [sorted(row, key=list(graph.texts).index) for row in nx.topological_generations(net)]
    along, beside = (0, 1) if graph.across else (1, 0)
    labels = [len(text) * WIDTH for *_, text in graph.arrows]
    between = max([LINE * 2.6, *(labels if graph.across else [])]) + 14
    order = {node: float(i) for row in rows for i, node in enumerate(row)}
    for row in rows[1:] + rows[-2::-1] + rows[1:]:  # down, up and down again
        for node in row:
            near = [order[other] for other in (*net.predecessors(node), *net.successors(node))]
            order[node] = sum(near) / len(near) if near else order[node]
        row.sort(key=lambda node: order[node])
        order.update({node: i - len(row) / 2 for i, node in enumerate(row)})
    lengths = [sum(sizes[n][beside] + GAP for n in row) - GAP for row in rows]
    at: dict[str, tuple[float, float]] = {}
    down = 4.0
    for row, length in zip(rows, lengths, strict=True):
        thick, side = max(sizes[n][along] for n in row), 4 + (max(lengths) - length) / 2
        for node in row:
            middle, center = side + sizes[node][beside] / 2, down + thick / 2
            at[node] = (center, middle) if graph.across else (middle, center)
            side += sizes[node][beside] + GAP
        down += thick + between
    return at


def _cut_circles(net: nx.DiGraph) -> None:
    """Takes out the last arrow of each circle; it is drawn upwards."""
    while not nx.is_directed_acyclic_graph(net):
        net.remove_edge(*nx.find_cycle(net)[-1])


def _node(graph: Graph, name: str, at: tuple[float, float], size: tuple[float, float]) -> str:
    (x, y), (width, height), lines = at, size, graph.texts[name]
    radius = height / 2 if name in graph.questions else 4
    box = f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width:.0f}" height="{height:.0f}" '
    text = "".join(
        f'<text x="{x:.0f}" y="{y + (i - (len(lines) - 1) / 2) * LINE + 4:.0f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    kind = ' class="question"' if name in graph.questions else ""
    return f'<g{kind}>{box}rx="{radius:.0f}"/>{text}</g>'


def _arrow(
    graph: Graph,
    arrow: tuple[str, str, str],
    at: dict[str, tuple[float, float]],
    sizes: dict[str, tuple[float, float]],
) -> str:
    a, b, label = arrow
    (x, y), (to_x, to_y) = at[a], at[b]
    if graph.across:
        x, to_x = x + sizes[a][0] / 2, to_x - sizes[b][0] / 2
        bend = f"C{(x + to_x) / 2:.0f} {y:.0f} {(x + to_x) / 2:.0f} {to_y:.0f}"
    else:
        y, to_y = y + sizes[a][1] / 2, to_y - sizes[b][1] / 2
        bend = f"C{x:.0f} {(y + to_y) / 2:.0f} {to_x:.0f} {(y + to_y) / 2:.0f}"
    path = f'<path d="M{x:.0f} {y:.0f} {bend} {to_x:.0f} {to_y:.0f}" marker-end="url(#tip)"/>'
    if not label:
        return path
    x, y, wide = (x + to_x) / 2, (y + to_y) / 2, len(label) * WIDTH + 6
    back = f'<rect class="label" x="{x - wide / 2:.0f}" y="{y - 9:.0f}" width="{wide:.0f}" height="18"/>'
    return path + back + f'<text x="{x:.0f}" y="{y + 4:.0f}">{escape(label)}</text>'
