"""Every comparison under configs/tradeoff is one that `fit` can run; compare/test_command.py runs one."""

from pathlib import Path

import pytest

from lkd.compare.reading import read
from lkd.compare.resolve import for_run, parse

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "configs/tradeoff").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_method_and_setting_is_what_fit_takes(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    grid = read(path)
    first = next(iter(grid.settings))
    cells = {(first, method) for method in grid.methods} | {
        (s, next(iter(grid.methods))) for s in grid.settings
    }
    for run in grid.runs:
        if (run.setting, run.method) in cells:
            cells.remove((run.setting, run.method))
            for_run(parse(grid.arguments(run.setting, run.method), str(run)), grid, run)
