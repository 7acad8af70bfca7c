"""Runs the notebooks as they are, in turn, and keeps the picture that each ends with: python docs/run_notebooks.py [NAME ...].

They run in a folder below build/notebooks that is made anew; what they print is in build/notebooks/NAME.ipynb.
"""

import base64
import shutil
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
PICTURES, BUILD = ROOT / "docs/pictures/notebooks", ROOT / "build/notebooks"


def run(path: Path) -> None:
    """Runs one notebook and keeps its last picture."""
    folder = BUILD / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notebook, start = nbformat.read(path, as_version=4), time.monotonic()
    try:
        where = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where).execute()
    finally:
        nbformat.write(notebook, BUILD / path.name)
    pictures = [o.data["image/png"] for o in notebook.cells[-1].outputs if "image/png" in o.get("data", {})]
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{path.stem}.png").write_bytes(base64.b64decode(pictures[-1]))
    print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    wanted = sys.argv[1:] or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for name in wanted:
        run(ROOT / "notebooks" / f"{name}.ipynb")
