"""A study comes back from its file as it was; what is no study is refused by file and line."""

import json
from dataclasses import replace

import pytest

from lkd.leaderboard import Origin, Study, read_study, write_study
from lkd.leaderboard.of_table import study_of_table

ROWS = (
    {"setting": "", "method": "alone", "seeds": 2, "acc": 0.9, "acc deviation": 0.01, "bytes": None},
    {"setting": "", "method": "FedAvg", "seeds": 2, "acc": 0.7, "acc deviation": 0.02, "bytes": 2.5e6},
    {"setting": "", "method": "FedMD", "seeds": 2, "acc": None, "acc deviation": None, "bytes": 1e6},
    {"setting": "", "method": "FedProx", "seeds": 2, "acc": 0.8, "acc deviation": 0.03, "bytes": 2.5e6},
)
STUDY = Study(
    title="Digits, by weights",
    about="Ten clients.",
    command="python cli.py compare x.yaml",
    metric="acc",
    higher_is_better=True,
    baselines=("alone",),
    seeds=(0, 1),
    origins=(Origin("0.2.0", "0123456789ab", "2.9.1", "a processor", "2026-11-30"),),
    rows=ROWS,
)


def test_round_trip_of_a_file_and_of_a_folder(tmp_path):
    write_study(STUDY, tmp_path / "study.json")
    assert read_study(tmp_path / "study.json") == STUDY == read_study(tmp_path)
    lines = (tmp_path / "study.json").read_text().splitlines()
    assert sum('"method"' in line for line in lines) == len(ROWS), "a row is a line"


def test_best_leaves_out_baselines_and_gaps():
    assert STUDY.best("", "acc") == 0.8
    assert replace(STUDY, higher_is_better=False).best("", "acc") == 0.7
    assert replace(STUDY, rows=ROWS[:1]).best("", "acc") is None


def test_nothing_that_is_not_finite_is_written(tmp_path):
    bad = replace(STUDY, rows=({**ROWS[0], "acc": float("nan")},))
    with pytest.raises(ValueError, match="JSON"):
        write_study(bad, tmp_path / "study.json")


def changed(**facts):
    def change(study):
        study.update(facts)
        return study

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(format=2), "no study of format 1"),
        (lambda study: [study], "no study of format 1"),
        (lambda study: {k: v for k, v in study.items() if k != "metric"}, "'metric'"),
        (changed(rows=[{"setting": "", "method": "KD", "seeds": 1}]), "row 1 has no 'acc'"),
        (changed(rows=[{"setting": "", "method": "KD", "seeds": 1, "acc": "high"}]), "acc='high'"),
        (changed(rows=[ROWS[0], ROWS[0]]), "two rows"),
        (changed(origins=[{"lkd": "1"}]), "missing"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, change, said):
    path = tmp_path / "study.json"
    write_study(STUDY, path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=said) as error:
        read_study(path)
    assert str(path) in str(error.value)


def test_half_a_file_is_refused_by_its_line(tmp_path):
    path = tmp_path / "study.json"
    write_study(STUDY, path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"study\.json, line \d+: is no JSON"):
        read_study(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="`compare` writes"):
        read_study(tmp_path)


def test_a_name_that_comes_again_in_a_table_gets_a_number():
    rows = [{"arm": "exit", "acc": 0.5}, {"arm": "exit", "acc": 0.6}, {"arm": "whole", "acc": float("nan")}]
    told = {
        "metric": "acc",
        "title": "",
        "verb": "offload",
        "args": ["a b"],
        "seed": 3,
        "made": STUDY.origins[0],
    }
    study = study_of_table(rows, lambda row: row["arm"], **told)
    assert [(row["method"], row["acc"]) for row in study.rows] == [
        ("exit", 0.5),
        ("exit (2)", 0.6),
        ("whole", None),
    ]
    assert study.command == "python cli.py offload 'a b'" and study.seeds == (3,)
