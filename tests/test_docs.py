"""What README and docs name exists: links, pictures, configs, and no placeholder is left."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_configs_and_scripts_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b((?:configs|benchmarks)/[\w/]+\.(?:yaml|py))\b", text):
        assert (ROOT / name).is_file(), f"{page.name} names {name}"
    assert not re.findall(r"\b[A-Z]+_(?:TABLE|LINK)\b|@@\w+@@", text), "a placeholder is left"


def test_the_docs_say_where_the_data_of_every_config_come_from():
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    used = {f for c in ROOT.glob("configs/**/*.yaml") for f in re.findall(r"\bdata/\w+", c.read_text())}
    assert {"data/weights", "data/traffic_cams"} <= used
    assert not {folder for folder in used if f"`{folder}`" not in page}


def test_every_folder_of_configs_is_described():
    page = (ROOT / "docs/configs.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in ROOT.glob("configs/*/*.yaml")} - {"networks"}
    assert not {folder for folder in folders if f"`{folder}/" not in page}


def test_every_make_target_in_the_readme_exists():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    for used in re.findall(r"\bmake ([a-z][\w-]*)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert used in targets or used in ("it",), used


def in_navigation(entries):
    """The pages of the site's navigation, or of a part of it."""
    for entry in entries:
        for below in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [below] if isinstance(below, str) else in_navigation(below)


def test_every_page_has_its_place_on_the_site():
    sections = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert [name for entry in sections for name in entry][1:] == [
        "Tutorials",
        "How to",
        "Explanation",
        "Reference",
    ]
    placed = list(in_navigation(sections))
    lost = {page.name for page in (ROOT / "docs").glob("*.md")} - set(placed)
    assert not lost, f"of none of the four kinds in mkdocs.yml: {lost}"
    assert len(placed) == len(set(placed)), "a page stands in two places"


def test_the_pictures_of_choices_end_at_configs():
    pictures = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs/choose.md").read_text("utf-8"), flags=re.S)
    ends = [end for picture in pictures for end in re.findall(r"\[(.*?)\]", picture)]
    configs = [config for end in ends for config in end.split("<br/>")]
    assert len(configs) > 15 and not [c for c in configs if not (ROOT / "configs" / c).is_file()]
