"""What README and docs name exists: links, pictures, configs, and no placeholder is left."""

import re
from pathlib import Path

import pytest

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
    assert not re.findall(r"\b[A-Z]+_(?:TABLE|LINK)\b", text), "a placeholder is left"


def test_the_readme_says_where_the_data_of_every_config_comes_from():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    used = {f for c in ROOT.glob("configs/**/*.yaml") for f in re.findall(r"\bdata/\w+", c.read_text())}
    assert {"data/weights", "data/traffic_cams"} <= used
    assert not {folder for folder in used if f"`{folder}`" not in readme}


def test_every_make_target_in_the_readme_exists():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    for used in re.findall(r"\bmake ([a-z][\w-]*)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert used in targets or used in ("it",), used
