"""The site is built strictly, and its pages load nothing from the network."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"' >]+)|<link\b[^>]*\bhref=[\"']?([^\"' >]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="the extra `docs` builds the site")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the extra `docs` builds the site")
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    offline = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"}
    offline |= {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # nobody answers there
    run = subprocess.run(build, cwd=ROOT, env=offline, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "- reference/" not in run.stdout + run.stderr, f"made, and not in the navigation: {run.stderr}"
    return out


def test_nothing_comes_from_the_network(site):
    pages = [*site.rglob("*.html")]
    loaded = {a or b for page in pages for a, b in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert len(pages) > 150 and any(name.endswith("iframe-worker.js") for name in loaded)
    assert not [name for name in loaded if name.startswith(("http:", "https:", "//"))]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//", styles) and "@import" not in styles


def test_graphs_are_drawn_and_lists_are_lists(site):
    for name, graphs in (("choose", 2), ("architecture", 2)):
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        assert text.count('<svg class="flowchart"') == graphs
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text, "its script would come from the network"
        assert not re.search(r"<p>(?:- |\* |\d\. |\|)", text), (
            f"{page.name}: a list or table is not seen as one"
        )


def test_the_search_finds_names_words_and_configs(site):
    index = json.loads(
        (site / "search/search_index.js").read_text(encoding="utf-8").removeprefix("var __index = ")
    )
    titles = {entry["title"] for entry in index["docs"]}
    assert {"SCAFFOLD", "kd_loss", "Digits", "oracle.yaml", "Words", "A loss"} <= titles
