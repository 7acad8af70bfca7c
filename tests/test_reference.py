"""The API reference reaches every public name, and says of each loss and algorithm paper, traffic and a config."""

import importlib
import inspect
import os
import re
from pathlib import Path

import pytest
import yaml

from lkd.cli import main
from lkd.federated import Algorithm
from lkd.losses import Term

from .detectors import needs_yolo
from .test_configs import cifar, how_to_shrink, in_this_process, keep, recipes_of, shrunk_recipe, words

ROOT = Path(__file__).parents[1]
BASES = {"Algorithm", "PublicExchange", "Term", "PairwiseTerm"}  # to write others on
WITHOUT_PAPER = {"Local", "Centralized"}  # no exchange, and the pooled data


@pytest.fixture(scope="module")
def hooks():
    """The modules that make the reference, imported as MkDocs does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs/hooks"))
        names = ("public_names", "reference_pages", "config_pages", "config_examples")
        yield {name: importlib.import_module(name) for name in names}


def entries(hooks, base):
    """Public classes of one kind, each with all that its page is made of."""
    found = hooks["public_names"]
    public = [*found.names("lkd.losses"), *found.names("lkd.federated")]
    for p in public:
        kind = getattr(importlib.import_module(p.package), p.name)
        if inspect.isclass(kind) and issubclass(kind, base) and p.name not in BASES:
            yield p, [other for other in public if other.module == p.module]


def test_every_public_name_has_an_entry(hooks):
    text = "\n".join(hooks["reference_pages"].pages().values())
    shown = re.findall(r"^::: (\S+)$", text, flags=re.M)
    wanted = []
    for folder, _, files in os.walk(ROOT / "lkd", followlinks=True):
        init = Path(folder, "__init__.py")
        if "__init__.py" in files and "\n__all__ = [" in init.read_text(encoding="utf-8"):
            package = ".".join(init.parent.relative_to(ROOT).parts)
            wanted += [f"{package}.{name}" for name in importlib.import_module(package).__all__]
    assert {"lkd.datamodules.Digits", "lkd.callbacks.EMA", "lkd.edge.Exported"} <= set(wanted)
    assert sorted(shown) == sorted(set(wanted))


def test_names_are_found_where_they_are_defined(hooks):
    for package in hooks["public_names"].packages():
        for public in hooks["public_names"].names(package):
            here = getattr(importlib.import_module(package), public.name)
            if inspect.isclass(here) or inspect.isfunction(here):
                assert here.__module__ == public.module, public


def test_a_name_from_nowhere_is_refused(hooks):
    with pytest.raises(ValueError, match="nothing of lkd"):
        hooks["public_names"]._defined("lkd.losses", "nothing")


@pytest.mark.parametrize("base", [Term, Algorithm])
def test_each_loss_and_algorithm_says_what_it_follows(hooks, base):
    pages = hooks["reference_pages"]
    papers = {p.name: pages.paper(file) for p, file in entries(hooks, base)}
    assert len(papers) > 25
    assert {name for name, cited in papers.items() if not cited} <= WITHOUT_PAPER


def test_each_algorithm_says_what_travels(hooks):
    said = {p.name: hooks["reference_pages"].travels([p]) for p, _ in entries(hooks, Algorithm)}
    assert not [name for name, sentence in said.items() if not sentence]


@pytest.mark.parametrize("base", [Term, Algorithm])
def test_each_loss_and_algorithm_has_a_config(hooks, base):
    for public, _ in entries(hooks, base):
        used = hooks["config_pages"].that_use(public.name)
        example = hooks["config_examples"].example(public.name)
        assert used or example or public.name in hooks["reference_pages"].IN_PYTHON, public.name
        assert not (used and example), f"{public.name}: {used[0]} shows it; take it out of examples.yaml"


def runs(hooks):
    """Each config with what goes on top of it: all its terms at once, or one algorithm after the other."""
    examples = hooks["config_examples"]
    for base, named in examples.examples().items():
        if base.startswith("federated/"):
            yield from ((base, examples.overlay(base, {name: args})) for name, args in named.items())
        else:
            yield base, examples.overlay(base, named)


@pytest.mark.parametrize("folder", ["classification", "federated", pytest.param("parking", marks=needs_yolo)])
def test_the_examples_run(hooks, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lkd.shipped.FOLDER", tmp_path / "configs")  # recipes are the shrunk ones here
    monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    monkeypatch.syspath_prepend(tmp_path)
    cifar()
    Path("configs").mkdir()
    Path("configs/networks").symlink_to(ROOT / "configs/networks")
    done = 0
    for base, overlay in runs(hooks):
        if not base.startswith(folder):
            continue
        config = yaml.safe_load((ROOT / "configs" / base).read_text())
        for checkpoint, recipe in recipes_of(config):
            shrunk_recipe(recipe)
            keep(checkpoint, recipe)
        Path("second.yaml").write_text(yaml.safe_dump(overlay))
        overrides = how_to_shrink(Path("configs", base), config)[2]
        main(["fit", f"--config={ROOT / 'configs' / base}", "--config=second.yaml", *words(overrides)])
        done += len(overlay.get("distillation", {}).get("init_args", {}).get("terms", [1]))
    assert done == sum(len(n) for b, n in hooks["config_examples"].examples().items() if b.startswith(folder))
