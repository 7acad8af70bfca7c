"""Tables on disk and in the terminal."""

import csv
import math

from lkd.metrics.tables import print_table, save_table, text, to_markdown

ROWS = [
    {"Role": "Teacher", "Camera": "C1", "Frames": 3, "mAP50": 1 / 3},
    {"Role": "Student", "Camera": "all", "Frames": 12, "mAP50": math.nan},
]


def test_cells():
    assert [text(v) for v in (0.12345, 1.0, 0.0, 3, "C1")] == ["0.123", "1.000", "0.000", "3", "C1"]
    assert [text(v) for v in (None, math.nan)] == ["-", "-"]
    assert [text(v) for v in (-1.0, -0.25, -math.inf)] == ["-1.000", "-0.250", "-inf"]


def test_markdown():
    assert to_markdown(ROWS).splitlines() == [
        "| Role | Camera | Frames | mAP50 |",
        "|---|---|---|---|",
        "| Teacher | C1 | 3 | 0.333 |",
        "| Student | all | 12 | - |",
    ]


def test_files_are_written_where_no_folder_was_and_csv_keeps_full_precision(tmp_path):
    save_table(ROWS, tmp_path / "new" / "deep" / "table")
    with (tmp_path / "new/deep/table.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert float(first["mAP50"]) == 1 / 3 and math.isnan(float(second["mAP50"]))
    assert second["Camera"] == "all"
    assert (tmp_path / "new/deep/table.md").read_text() == to_markdown(ROWS) + "\n"
    assert sorted(p.name for p in (tmp_path / "new/deep").iterdir()) == ["table.csv", "table.md"]


def test_files_of_a_name_with_a_dot(tmp_path):
    save_table(ROWS, tmp_path / "run.v1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.v1.csv", "run.v1.md"]


def test_terminal(capsys):
    print_table(ROWS, "A title")
    shown = capsys.readouterr().out
    assert "A title" in shown
    line = next(line for line in shown.splitlines() if "Teacher" in line)
    assert "C1" in line and "0.333" in line
