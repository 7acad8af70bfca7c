"""A comparison writes itself as a study, with the commit and machine of its runs."""

import dataclasses

from lkd.compare.report import write
from lkd.compare.summary import summarize
from lkd.leaderboard import Origin, read_study

from .study import a_grid, results_of, usual


def test_a_comparison_is_a_study(tmp_path):
    grid = a_grid(tmp_path)
    results = results_of(grid, usual)
    write(results, tmp_path, "python cli.py compare x.yaml")
    study = read_study(tmp_path)
    assert study.command == "python cli.py compare x.yaml"
    assert study.baselines == ("alone",)
    assert study.seeds == (0, 1)
    assert list(study.rows) == summarize(results)
    assert study.metric == grid.metric and study.higher_is_better
    assert study.origins == ()  # made-up results say none


def test_origins_are_those_of_the_runs_each_once(tmp_path):
    made = [Origin("0.1", c, "2.9", "a machine", "2026-01-01") for c in ("aa", "bb")]
    results = results_of(
        a_grid(tmp_path), lambda run: {**usual(run), "origin": dataclasses.asdict(made[run.seed])}
    )
    write(results, tmp_path, "")
    assert read_study(tmp_path).origins == tuple(made)


def test_without_results_there_is_no_study(tmp_path):
    write(results_of(a_grid(tmp_path), lambda run: None), tmp_path, "")
    assert not (tmp_path / "study.json").exists()
