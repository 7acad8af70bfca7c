"""The pictures of the house in the docs are those of the imports, and nothing goes round in circles that should not."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOUSE = runpy.run_path(str(ROOT / "docs/house.py"))


def test_the_pictures_are_true():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert HOUSE["page"](text) == text, "run python docs/house.py"


def test_no_circle_in_the_federation():
    assert HOUSE["circles"](HOUSE["arrows"]("lkd.federated", HOUSE["FEDERATED"])) == []


def test_the_edge_and_the_losses_know_no_federation():
    found = HOUSE["arrows"]("lkd", HOUSE["LKD"])
    assert "federated" not in found["edge"] | found["losses"] | found["models"] | found["teachers"]
    assert found["losses"] == set()
