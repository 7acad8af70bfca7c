"""What makes pages of the site: links are led to where pages are, and graphs are drawn or refused."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hooks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs/hooks"))
        yield lambda name: importlib.import_module(name)


@pytest.mark.parametrize(
    ("page", "there", "here"),
    [
        ("index.md", "[a](docs/cli.md#help)", "[a](cli.md#help)"),
        ("index.md", "![p](docs/pictures/demo.jpg)", "![p](pictures/demo.jpg)"),
        ("cli.md", "[a](../README.md#license)", "[a](index.md#license)"),
        ("cli.md", "[c](../configs/parking/oracle.yaml)", "[c](reference/configs/parking.md#oracle)"),
        ("cli.md", "[`nms`](../lkd/edge/nms.py)", "`nms`"),  # a module is no page
        ("tutorials.md", "[n](../notebooks/nine_cameras.ipynb)", "[n](notebooks/nine_cameras.md)"),
        ("notebooks/nine_cameras.md", "[d](../docs/deploy.md)", "[d](../deploy.md)"),
        ("cli.md", "[a](https://lightning.ai) and x[0](y)", "[a](https://lightning.ai) and x[0](y)"),
        ("cli.md", "[gone](gone.md)", "[gone](gone.md)"),  # which the strict build finds
    ],
)
def test_links_are_led_to_pages(hooks, page, there, here):
    assert hooks("moved_links").moved(there, page) == here


def test_a_graph_is_drawn(hooks):
    flowchart = hooks("flowchart")
    source = "graph TD\n    a{Well?} -->|yes & no| b[one<br/>two]\n    a --> c\n    c --> b\n"
    graph = flowchart.parsed(source)
    assert graph.texts == {"a": ["Well?"], "b": ["one", "two"], "c": ["c"]} and graph.questions == {"a"}
    assert graph.arrows == [("a", "b", "yes & no"), ("a", "c", ""), ("c", "b", "")]
    drawn = flowchart.drawn(f"before\n\n```mermaid\n{source}```\n\nafter")
    assert (
        drawn.startswith("before\n\n<svg") and drawn.endswith("</svg>\n\nafter") and "yes &amp; no" in drawn
    )
    heights = [int(y) for y in re.findall(r'<text x="\d+" y="(\d+)">(?:Well|c<|two)', drawn)]
    assert heights[0] < heights[2] < heights[1], "each below all that point to it"


def test_a_circle_is_drawn_too(hooks):
    flowchart = hooks("flowchart")
    assert (
        flowchart.svg(flowchart.parsed("graph LR\na --> b\nb --> a\n")).count('<path d="M') == 3
    )  # one is the tip


@pytest.mark.parametrize(
    "source", ["sequenceDiagram\na ->> b\n", "graph TD\nsubgraph one\n", "graph TD\na -.-> b\n"]
)
def test_what_cannot_be_drawn_is_refused(hooks, source):
    with pytest.raises(ValueError, match="can be drawn"):
        hooks("flowchart").parsed(source)


def test_a_notebook_becomes_a_page(hooks):
    page = hooks("notebook_pages").pages()["notebooks/first_federation.md"]
    assert page.startswith("# A first federation") and "```python\n" in page
    assert page.rstrip().endswith("(../pictures/notebooks/first_federation.png)")
