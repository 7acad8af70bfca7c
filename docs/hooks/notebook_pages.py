"""Pages that show the notebooks: their text and code, and at the end the picture that `make notebooks` has made."""

import json

from config_pages import ROOT

NOTEBOOKS = ROOT / "notebooks"


def pages() -> dict[str, str]:
    """Returns a page for each notebook, by its path on the site."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        parts = [_shown(cell["cell_type"], "".join(cell["source"])) for cell in cells]
        parts.insert(1, f"*To run it, open `notebooks/{path.name}` of the repository.*")
        picture = ROOT / f"docs/pictures/notebooks/{path.stem}.png"
        if picture.is_file():
            parts.append(f"![The picture that the last cell draws](../pictures/notebooks/{path.stem}.png)")
        found[f"notebooks/{path.stem}.md"] = "\n\n".join(parts) + "\n"
    return found


def _shown(kind: str, source: str) -> str:
    return f"```python\n{source.rstrip()}\n```" if kind == "code" else source.rstrip()
