"""The YAML of a comparison: what it stands for, and one sentence for each mistake."""

from pathlib import Path

import pytest
import yaml

from lkd.compare.grid import Method, Run, RunGrid
from lkd.compare.reading import chosen, read

WHOLE = {
    "title": "A study",
    "about": "Two\n  lines",
    "base": "base.yaml",
    "methods": {
        "alone": {"overrides": ["--model.algorithm=Local"], "baseline": True},
        "FedAvg": None,
        "MHD, ring": {"config": "mhd.yaml", "measure": "test/acc_head4"},
    },
    "settings": {0.2: ["--data.rate=.2"], 0.5: ["--data.rate=.5"]},
    "overrides": ["--trainer.max_epochs=5", "--trainer.callbacks+=RoundReport"],
    "seeds": [3, 4],
    "seeded": ["data.seed"],
    "metric": "clients/val/loss/worst",
    "target": 1,
    "every": 2,
    "folder": "out",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("base.yaml", "mhd.yaml"):
        Path(name).write_text("")


def written(**changes):
    given = {**WHOLE, **changes}
    Path("study.yaml").write_text(
        yaml.safe_dump({k: v for k, v in given.items() if v is not ...}, sort_keys=False)
    )
    return "study.yaml"


def test_all_keys():
    assert read(written()) == RunGrid(
        base="base.yaml",
        methods={
            "alone": Method("", ("--model.algorithm=Local",), True),
            "FedAvg": Method(),
            "MHD, ring": Method("mhd.yaml", measure="test/acc_head4"),
        },
        title="A study",
        about="Two lines",
        settings={"0.2": ("--data.rate=.2",), "0.5": ("--data.rate=.5",)},
        overrides=("--trainer.max_epochs=5", "--trainer.callbacks+=RoundReport"),
        seeds=(3, 4),
        seeded=("data.seed",),
        metric="clients/val/loss/worst",
        higher_is_better=False,
        target=1.0,
        every=2,
        folder="out",
    )


def test_what_may_be_left_out():
    Path("small.yaml").write_text("base: base.yaml\nmethods: {FedAvg: }\n")
    grid = read("small.yaml")
    assert grid.runs == [Run("", "FedAvg", 0)] and grid.runs[0].folder == Path("FedAvg/seed_0")
    assert (grid.title, grid.metric, grid.folder) == ("small", "test/acc", str(Path("runs/small")))
    assert grid.higher_is_better and grid.target is None


def test_runs_and_their_arguments():
    grid = read(written(), "elsewhere", ("--trainer.max_epochs=1",))
    assert len(grid.runs) == 2 * 2 * 3 and [run.seed for run in grid.runs] == [3] * 6 + [4] * 6
    assert grid.folder == "elsewhere" and grid.part == "val" and grid.measure == "val/loss"
    assert grid.arguments("0.5", "MHD, ring") == [
        *("--config", "mhd.yaml", "--trainer.max_epochs=5", "--trainer.callbacks+=RoundReport"),
        *("--data.rate=.5", "--trainer.max_epochs=1"),
    ]
    assert grid.arguments("0.2", "alone")[-3:-1] == ["--model.algorithm=Local", "--data.rate=.2"]
    assert str(grid.runs[-1]) == "MHD, ring, 0.5, seed 4"
    assert grid.runs[-1].folder == Path("0.5/MHD_ring/seed_4")
    assert chosen(grid, [7, 7]).seeds == (7,) and chosen(grid, None) is grid


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"metrics": "x"}, r"study.yaml: 'metrics' is not known; did you mean 'metric'\?"),
        ({"zzz": 1}, r"'zzz' is not known; there are base, methods,"),
        ({"base": ...}, "study.yaml: base is missing"),
        ({"methods": {}}, "study.yaml: methods is missing"),
        ({"methods": ["FedAvg"]}, r"methods must be names, each with what it stands for, not \['FedAvg'\]"),
        (
            {"methods": {"A": {"override": []}}},
            r"methods.A: 'override' is not known; did you mean 'overrides'\?",
        ),
        (
            {"methods": {"A": "FedAvg"}},
            r"methods.A must have keys, some of config, overrides, baseline, measure, not 'FedAvg'",
        ),
        (
            {"methods": {"A": {"overrides": "--x=1"}}},
            r"methods.A.overrides must be a list such as .*, not '--x=1'",
        ),
        (
            {"methods": {"A": {"overrides": ["x=1"]}}},
            r"methods.A.overrides: 'x=1' must be an option and its value",
        ),
        ({"methods": {"A": {"overrides": ["--x"]}}}, r"'--x' must be an option and its value"),
        ({"methods": {"A": {"baseline": 1}}}, r"methods.A.baseline=1 must be true or false"),
        ({"methods": {"a b": None, "a/b": None}}, r"two runs would write to 0.2/a_b/seed_3"),
        ({"methods": {"..": None}}, r"methods: '\.\.' must be a name with letters or digits"),
        ({"methods": {"": None}}, "methods: '' must be a name"),
        ({"methods": {True: None}}, "methods: True must be a name .* in quotes"),
        ({"settings": {None: []}}, "settings: None must be a name"),
        ({"methods": {1: None, "1": None}}, "two names are the same, one a number and one a text"),
        ({"settings": {"s": [{"x": 1}]}}, r"settings.s: \{'x': 1\} must be an option"),
        ({"overrides": {"x": 1}}, r"study.yaml: overrides must be a list"),
        ({"seeds": []}, r"seeds=\[\] must be a list of whole numbers from 0 on"),
        ({"seeds": 3}, "seeds=3 must be a list"),
        ({"seeds": [0, -1]}, r"seeds=\[0, -1\] must be"),
        ({"seeds": [True]}, r"seeds=\[True\] must be"),
        ({"every": 0}, "every=0 must be a number of rounds, 1 or more"),
        ({"target": "high"}, "target='high' must be a number"),
        ({"higher_is_better": "yes"}, "higher_is_better='yes' must be true or false"),
    ],
)
def test_mistakes(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(written(**changes))


def test_files_that_are_not_there():
    with pytest.raises(FileNotFoundError, match=r"none.yaml does not exist; give the YAML of a comparison"):
        read("none.yaml")
    for changes in ({"base": "gone.yaml"}, {"methods": {"A": {"config": "gone.yaml"}}}):
        with pytest.raises(FileNotFoundError, match=r"study.yaml: the config gone.yaml does not exist here"):
            read(written(**changes))


def test_no_yaml_at_all():
    for text, sentence in (("a: [", "study.yaml is no YAML"), ("- a", r"must have keys, .*not \['a'\]")):
        Path("study.yaml").write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read("study.yaml")
