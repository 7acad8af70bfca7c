"""Every method of every comparison under configs/tradeoff/ runs, shrunk, on generated data at the very paths that it names."""

from pathlib import Path

import pytest
import yaml

from lkd.cli import main
from lkd.compare.reading import read

from .test_configs import ROOT, extras, how_to_shrink, in_this_process, keep, shrunk_recipe, teacher_of, words

STUDIES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs/tradeoff").glob("*.yaml"))
RUN_ELSEWHERE = ("configs/tradeoff/digits.yaml",)  # by compare/test_command.py, as a whole


def grid_of(study, monkeypatch):
    monkeypatch.chdir(ROOT)  # its configs are named from there
    return read(study)


def kind_of(config, overrides):
    """What a method learns by: the class of its algorithm and that of its distillation, where it has them."""
    given, said = yaml.safe_load((ROOT / config).read_text()), dict(o[2:].split("=", 1) for o in overrides)
    written = {
        "model.algorithm": given["model"]["init_args"].get("algorithm"),
        "distillation": given.get("distillation"),
    }
    found = {
        name: value["class_path"] if isinstance(value, dict) else value for name, value in written.items()
    }
    return tuple(str(said.get(name, value)).rpartition(".")[2] for name, value in found.items())


def methods():
    """Every method of every study. Always run are the first of each kind, and the first and last of a study, which have its
    data and settings; the others are `slow`: what else they say is parsed by test_tradeoff.py."""
    ran = set()
    for study in STUDIES:
        if study in RUN_ELSEWHERE:
            continue
        given = yaml.safe_load((ROOT / study).read_text())
        names = list(given["methods"])
        for name, said in given["methods"].items():
            said = said or {}
            kind = kind_of(said.get("config", given["base"]), given["overrides"] + said.get("overrides", []))
            slow = kind in ran and name not in (names[0], names[-1])
            ran.add(kind)
            yield pytest.param(study, name, marks=extras(study) + [pytest.mark.slow] * slow)


@pytest.mark.parametrize(("study", "method"), list(methods()), ids=lambda word: Path(word).stem)
def test_method_runs_to_its_end(study, method, tmp_path, monkeypatch):
    grid = grid_of(study, monkeypatch)
    _, config, *overrides = grid.arguments(list(grid.settings)[-1], method)
    given = yaml.safe_load((ROOT / config).read_text())
    _, make, small = how_to_shrink(Path(config), given)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    make()
    Path("configs").mkdir(exist_ok=True)
    Path("configs/networks").symlink_to(ROOT / "configs/networks")
    teachers = [teacher_of(given)]
    named = [each.partition("=") for each in overrides if ".teacher." in each]
    teachers += [{name.rsplit(".", 1)[1]: value for name, _, value in named}]
    for teacher in teachers:
        if "recipe" in teacher and "--distillation=null" not in overrides:
            shrunk_recipe(teacher["recipe"])
            keep(teacher["model"], teacher["recipe"])
    measure = ["--trainer.callbacks+=TradeoffLog", "--trainer.enable_checkpointing=false"]
    small = {name: value for name, value in small.items() if name != "trainer.limit_val_batches"}
    main(["fit", "--config", str(ROOT / config), *overrides, *words(small), *measure])
    (report,) = Path("runs").glob("*/version_0/report/tradeoff.json")
    found = yaml.safe_load(report.read_text())
    last = found["curve"][-1]["metrics"] if found["curve"] else {}
    measured = {**last, **found["final"]}
    assert measured.get(grid.metric if found["federation"] else grid.measure) is not None
    for teacher in teachers:
        if "recipe" in teacher and Path(teacher["model"]).is_file():
            keep(teacher["model"], teacher["recipe"])
