"""A comparison writes itself as a study, with the commit and machine of its runs."""

import dataclasses

from lkd.compare.report import write
from lkd.compare.summary import summarize
from lkd.leaderboard import Origin, origin, read_study

from .study import VALUES, a_grid, a_result, jobs_of, results_of
from .study import write as put


def test_a_comparison_is_a_study(tmp_path):
    grid = a_grid(tmp_path)
    results = usual(grid)
    write(results, tmp_path, "python cli.py compare x.yaml")
    study = read_study(tmp_path)
    assert study.command == "python cli.py compare x.yaml"
    assert study.baselines == ("alone",)
    assert study.seeds == (0, 1)
    assert list(study.rows) == summarize(results)
    assert study.metric == grid.metric and study.higher_is_better
    assert study.origins == ()  # made-up results say none


def test_origins_are_those_of_the_runs(tmp_path):
    grid, made = a_grid(tmp_path), [Origin("0.1", c, "2.9", "a machine", "2026-01-01") for c in ("aa", "bb")]
    for job in jobs_of(grid):
        of = made[job.run.seed]
        put(job, {**a_result(VALUES[job.run.method, job.run.seed]), "origin": dataclasses.asdict(of)})
    write(results_of(grid), tmp_path, "")
    assert read_study(tmp_path).origins == tuple(made)


def test_without_results_there_is_no_study(tmp_path):
    write(results_of(a_grid(tmp_path)), tmp_path, "")
    assert not (tmp_path / "study.json").exists()


def test_origin_is_of_the_code_that_runs():
    assert origin() == origin()
