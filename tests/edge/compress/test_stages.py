"""The stage table."""

import csv

import pytest
from lightning.pytorch.loggers import WandbLogger

from lkd.edge.compress import Stage
from lkd.edge.compress.stages import Outcome, report, say

from .graphs import detector
from .test_judge import measures


class Wandb(WandbLogger):
    def __init__(self):
        self.seen = {}

    def log_table(self, key, columns=None, data=None, **kwargs):
        self.seen[key] = columns, data

    def log_image(self, key, images, **kwargs):
        self.seen[key] = images


@pytest.fixture
def outcomes(tmp_path):
    timed = {"latency": {"": {"threads": 1, "cpu": "a CPU"}}}
    made = measures(drop=-0.01)
    found = type(made)(**{**vars(made), **timed})
    path = detector(tmp_path / "student.onnx")
    return [
        Outcome(Stage("0 parent", tmp_path, None, [path]), found, "0 parent", True, "the dense student"),
        Outcome(Stage("1 quantize", tmp_path, None, [path]), found, "0 parent", False, "0.5 MB, max_mb=0.1"),
        Outcome(Stage("2 aware", tmp_path, None), None, "1 quantize", False, "not run"),
    ]


def test_the_table_in_files_and_in_wandb(outcomes, tmp_path, capsys):
    logger = Wandb()
    report(tmp_path, outcomes, [logger])
    with (tmp_path / "stages.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kept"] for row in rows] == [
        "yes: the dense student",
        "no: 0.5 MB, max_mb=0.1",
        "no: not run",
    ]
    assert rows[0]["lost"] == "-0.0100" and rows[0]["M MACs"] == "0.05376" and rows[2]["MB"] == ""
    columns, data = logger.seen["compress/stages"]
    assert columns == list(rows[0]) and data[1][0] == "1 quantize"
    assert logger.seen["compress/picture"] == [str(tmp_path / "stages.png")]
    shown = capsys.readouterr().out
    assert "1 quantize" in shown and "0.5 MB, max_mb=0.1" in shown and "-0.0100" in shown


def test_a_line_of_each(outcomes, capsys):
    for outcome in outcomes:
        say(outcome)
    assert capsys.readouterr().out.splitlines() == [
        "0 parent: acc 0.9000 (-0.0100 lost), 0.5 MB, 1 ms; kept: yes: the dense student",
        "1 quantize: acc 0.9000 (-0.0100 lost), 0.5 MB, 1 ms; kept: no: 0.5 MB, max_mb=0.1",
        "2 aware: kept: no: not run",
    ]
