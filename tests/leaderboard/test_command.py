"""The verb: a page and a CSV of the studies that it is given, and tables in pages."""

import csv
from dataclasses import replace

import pytest

from lkd.cli import main
from lkd.leaderboard import write_study

from .test_study import ROWS, STUDY


def put(folder, name, study=STUDY):
    (folder / name).mkdir(parents=True)
    write_study(study, folder / name / "study.json")


def test_page_and_csv(tmp_path, capsys):
    put(tmp_path / "runs", "digits")
    settings = tuple({**row, "setting": s} for s in ("skew .1", "skew 1") for row in ROWS)
    put(tmp_path / "runs", "skews", replace(STUDY, title="Two skews", about="", rows=settings))
    main(["leaderboard", str(tmp_path / "runs"), "--folder", str(tmp_path / "out")])
    assert "2 studies" in capsys.readouterr().out
    page = (tmp_path / "out/leaderboard.md").read_text()
    assert "- [Digits, by weights](#digits-by-weights)" in page
    order = [line for line in page.splitlines() if line.startswith("| ")]
    assert order[1:5] == [
        "| *alone* | .900 ± .010 | - |",
        "| FedProx | **.800 ± .030** | 2.500 |",
        "| FedAvg | .700 ± .020 | 2.500 |",
        "| FedMD | - | 1.000 |",
    ]
    assert "\n\n\n" not in page
    assert order[5] == "| method | skew .1 | skew 1 |"
    assert (
        "commit 0123456789ab, torch 2.9.1, a processor, 2026-11-30" in " ".join(page.split())
        and "seeds 0, 1" in page
    )
    rows = list(csv.DictReader((tmp_path / "out/leaderboard.csv").open()))
    mine = [r for r in rows if (r["study"], r["method"], r["measure"]) == ("digits", "FedAvg", "acc")]
    assert [(r["mean"], r["deviation"], r["seeds"], r["commit"]) for r in mine] == [
        ("0.7", "0.02", "2", "0123456789ab")
    ]


def test_a_loss_is_ranked_from_below(tmp_path):
    put(tmp_path, "loss", replace(STUDY, higher_is_better=False))
    main(["leaderboard", str(tmp_path / "loss"), "--folder", str(tmp_path)])
    page = (tmp_path / "leaderboard.md").read_text()
    assert page.index("| FedAvg | **.700") < page.index("| FedProx | .800")


def test_tables_in_pages_are_filled_and_stay(tmp_path):
    put(tmp_path / "runs", "digits")
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("Nothing is marked.\n")
    shown = "    <!-- study gone: an example, which is no mark -->\n"
    page.write_text(
        shown
        + "Before.\n\n<!-- study digits: accuracy = acc; MB = bytes / 1e6 -->\n<!-- end of study -->\nBehind.\n"
    )
    given = [
        "leaderboard",
        str(tmp_path / "runs"),
        "--folder",
        str(tmp_path),
        "--pages",
        str(page),
        str(other),
    ]
    main(given)
    text = page.read_text()
    assert "| FedAvg | .700 ± .020 | 2.500 |\n" in text and "| alone | .900 ± .010 | - |\n" in text
    assert text.startswith(shown + "Before.\n") and text.endswith("<!-- end of study -->\nBehind.\n")
    main(given)
    assert page.read_text() == text


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("<!-- study gone: a = acc -->\n<!-- end of study -->", "there is no study 'gone'; there are digits"),
        ("<!-- study digits: a = accc -->\n<!-- end of study -->", "'a = accc' is not TITLE = NAME of"),
        (
            "<!-- study digits: a = acc -->\n\n<!-- study digits: a = acc -->\n<!-- end of study -->",
            "has no `<!-- end of study -->`",
        ),
    ],
)
def test_wrong_marks_are_refused(tmp_path, mark, said):
    put(tmp_path / "runs", "digits")
    (tmp_path / "page.md").write_text(mark + "\n")
    with pytest.raises(SystemExit, match=said):
        main(
            [
                "leaderboard",
                str(tmp_path / "runs"),
                "--folder",
                str(tmp_path),
                "--pages",
                str(tmp_path / "page.md"),
            ]
        )


def test_two_of_one_name_and_none_are_refused(tmp_path):
    put(tmp_path / "a", "digits")
    put(tmp_path / "b", "digits", replace(STUDY, title="Another"))
    with pytest.raises(SystemExit, match="are both named 'digits'"):
        main(["leaderboard", str(tmp_path / "a"), str(tmp_path / "b"), "--folder", str(tmp_path / "out")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="has no study"):
        main(["leaderboard", str(tmp_path / "empty")])
    assert not (tmp_path / "out").exists()
