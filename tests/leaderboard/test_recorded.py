"""Figures of recorded studies in docs/ come from the studies' files: `make leaderboard` would change nothing."""

import shutil
from pathlib import Path

import pytest

from lkd.leaderboard.command import collect, run
from lkd.leaderboard.filled import MARKED, filled

ROOT = Path(__file__).parents[2]
STUDIES = collect([ROOT / "studies"])
PAGES = [path for path in sorted(ROOT.glob("docs/*.md")) if MARKED.search(path.read_text(encoding="utf-8"))]


def test_the_leaderboard_is_that_of_the_studies(tmp_path):
    run([str(ROOT / "studies"), "--folder", str(tmp_path)])
    for name in ("leaderboard.md", "leaderboard.csv"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "run make leaderboard"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_in_pages_are_those_of_the_studies(page):
    text = page.read_text(encoding="utf-8")
    assert filled(text, STUDIES, page.name) == text, "run make leaderboard"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_where_it_comes_from(name):
    study = STUDIES[name]
    assert study.origins and study.title
    assert all(origin.commit for origin in study.origins), "it was not run in the repository"
    config = next(word for word in study.command.split() if word.startswith("configs/"))
    assert (ROOT / config).is_file(), "the command's configuration is there"


def test_a_change_by_hand_is_found(tmp_path):
    page = shutil.copy(PAGES[0], tmp_path)
    text = Path(page).read_text(encoding="utf-8")
    match = MARKED.search(text)
    by_hand = text.replace(match["table"], match["table"].replace(".8", ".9"), 1)
    assert by_hand != text and filled(by_hand, STUDIES, "page") == text
