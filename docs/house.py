"""Draws the house from the imports: which room of lkd imports which, as Mermaid for architecture.md.

    python docs/house.py            # writes the pictures into docs/architecture.md

A room is a package; an arrow is an import that happens when lkd runs. Arrows that follow from others are left out.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
FOLDERS = {"datamodules": ROOT / "datamodules", "callbacks": ROOT / "callbacks"}
LKD = (
    "losses",
    "models",
    "metrics",
    "teachers",
    "distillation",
    "modules",
    "datamodules",
    "federated",
    "callbacks",
    "edge",
    "compare",
    "leaderboard",
)
FEDERATED = ("protocol", "server", "client", "engines", "algorithms", "knowledge", "peers", "topology")


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports when it runs, inside of functions, too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def arrows(package: str, rooms: tuple[str, ...]) -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = {}
    for room in rooms:
        folder = FOLDERS.get(room, ROOT / package.replace(".", "/") / room)
        names = {name for path in folder.rglob("*.py") for name in imports(path)}
        found[room] = {
            o for o in rooms if o != room and any(f"{n}.".startswith(f"{package}.{o}.") for n in names)
        }
    return found


def circles(found: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Pairs of rooms that reach each other."""
    reach = {room: _reach(room, found) for room in found}
    return [(a, b) for a in found for b in found if a < b and b in reach[a] and a in reach[b]]


def _reach(room: str, found: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = list(found[room])
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead += found[one]
    return seen


def picture(package: str, rooms: tuple[str, ...]) -> str:
    """A Mermaid graph, from the top of the house down."""
    found, lines = arrows(package, rooms), ["```mermaid", "graph TD"]
    for room in rooms:
        for other in sorted(found[room]):
            between = found[room] - {other}
            if not any(other in _reach(one, found) and room not in _reach(one, found) for one in between):
                lines.append(f"    {room} --> {other}")
    return "\n".join([*lines, "```"])


def page(text: str) -> str:
    """The page with the pictures of today between their marks."""
    for package, rooms in (("lkd", LKD), ("lkd.federated", FEDERATED)):
        begin, end = f"<!-- house {package} -->", f"<!-- end of {package} -->"
        block = f"{begin}\n{picture(package, rooms)}\n{end}"
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _, new=block: new, text, flags=re.S)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
