"""The command from end to end: real runs against a direct fit, again and changed, failures, W&B."""

import csv
import html
import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from lkd.cli import main
from lkd.compare import command
from lkd.compare.reading import read

from .study import usual, write

ROOT = Path(__file__).parents[2]
FEDAVG = str(ROOT / "configs/federated/digits_fedavg.yaml")
QUICK = [
    *(
        "--data.clients=3",
        "--data.client_fractions=[0.6,0.0,0.4]",
        "--data.public=0.1",
        "--trainer.max_epochs=2",
    ),
    *("--model.local.epochs=1", "--trainer.limit_val_batches=0", "--trainer.callbacks=null"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def written(**changes):
    given = {
        "base": FEDAVG,
        "methods": {"FedAvg": None, "FedMD": {"overrides": ["--model.algorithm=FedMD"]}},
        "overrides": QUICK,
        "seeds": [1],
        "metric": "shared/test/acc/mean",
        "folder": "out",
    }
    Path("study.yaml").write_text(yaml.safe_dump({**given, **changes}, sort_keys=False))
    return "study.yaml"


def rows(name):
    with Path("out", f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_are_those_of_a_direct_fit_and_are_not_run_again(capsys):
    main(["compare", written(), "--jobs", "2", "--threads", "1"])
    assert "[2/2]" in (said := capsys.readouterr().out) and "Report: out/report.html" in said
    seeds = ["--seed_everything=1", "--data.seed=1", "--model.seed=1"]
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=direct"]
    main(["fit", "--config", FEDAVG, *QUICK, *seeds, *logger, "--trainer.enable_progress_bar=false"])
    with next(Path("direct").rglob("metrics.csv")).open(newline="") as file:
        direct = [row["test/acc"] for row in csv.DictReader(file) if row["test/acc"]]
    fedavg, fedmd = rows("runs")
    assert float(fedavg["test/acc"]) == pytest.approx(float(direct[0]), abs=1e-7)
    assert fedavg["shared/test/acc/mean"] == fedavg["test/acc"] and not fedmd["test/acc"]
    assert float(rows("break_even")[1]["values_up"]) == 10
    capsys.readouterr()

    results = {path: path.stat().st_mtime_ns for path in Path("out").rglob("result.json")}
    main(["compare", written(target=0.1), "--jobs", "2"])
    assert "2 of 2 runs are done and are not run again." in capsys.readouterr().out
    assert results == {path: path.stat().st_mtime_ns for path in Path("out").rglob("result.json")}
    assert rows("results")[0]["reached_target"] == "1"

    changed = {
        "FedAvg": None,
        "FedMD": {"overrides": ["--model.algorithm=FedMD", "--model.algorithm.epochs=2"]},
    }
    main(["compare", written(methods=changed), "--report-only"])
    assert [row["method"] for row in rows("results")] == ["FedAvg"]
    main(["compare", written(methods=changed), "--only", "FedMD"])
    said = capsys.readouterr().out
    assert "FedMD, seed 1 is run again: its options have changed." in said and "[1/1] FedMD, seed 1" in said
    assert [row["method"] for row in rows("results")] == ["FedAvg", "FedMD"]


def test_a_run_that_fails_is_told_at_the_end_and_tried_again(monkeypatch, capsys):
    broken = ["--model.algorithm=FedProto", "--model.algorithm.layer=nowhere", "--model.algorithm.classes=10"]
    study = written(methods={"broken": {"overrides": broken}, "FedAvg": None})
    with pytest.raises(SystemExit, match=r"^1 run failed; the report has the last lines"):
        main(["compare", study, "--jobs", "2"])
    assert "broken, seed 1: FAILED: RefusalError: layer='nowhere' is not a layer" in capsys.readouterr().out
    assert "layer='nowhere' is not a layer" in html.unescape(Path("out/report.html").read_text())
    assert [row["method"] for row in rows("runs")] == ["FedAvg"]
    tried = []
    monkeypatch.setattr(command, "carry_out", lambda jobs, *_, **__: tried.extend(jobs) or 0)
    main(["compare", study])
    assert [str(job.run) for job in tried] == ["broken, seed 1"]
    assert "broken, seed 1 is run again: it failed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        (
            {"methods": {"A": {"overrides": ["--model.algorithm=FedAv"]}}},
            [],
            r"^ValueError: A: .*'FedAv'; did you mean",
        ),
        ({"settings": {"s": ["--data.clintz=3"]}}, [], r"^ValueError: FedAvg, s: .*clintz"),
        ({"seeded": ["data.sed"]}, [], r"^ValueError: FedAvg, seed 1: seeded: there is no option data.sed"),
        ({"meric": "x"}, [], r"^ValueError: study.yaml: 'meric' is not known; did you mean 'metric'\?"),
        (
            {},
            ["--seeds", "-1"],
            r"^ValueError: --seeds: seeds=\[-1\] must be a list of whole numbers from 0 on",
        ),
        ({"limit": 0}, [], r"^ValueError: study.yaml: limit=0 must be a number of clients, 1 or more"),
        ({}, ["--only", "FedProx"], r"^ValueError: --only FedProx: the methods are FedAvg, FedMD\."),
        ({}, ["--data.clintz=3"], r"^ValueError: FedAvg: .*clintz"),
    ],
)
def test_mistakes_are_found_before_anything_runs(monkeypatch, changes, arguments, sentence):
    monkeypatch.setattr(command, "carry_out", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(SystemExit, match=sentence):
        main(["compare", written(**changes), *arguments])
    assert not list(Path("out").rglob("config.yaml"))


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--job"], ["nonsense"]])
def test_options_of_the_command_itself(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", written(), *arguments])
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def put_results(jobs, *_, **__):
    """In place of real runs."""
    for job in jobs:
        write(job, usual(job.run))
    return 0


def test_a_metric_that_nobody_measured_is_told_with_those_that_are(monkeypatch):
    monkeypatch.setattr(command, "carry_out", put_results)
    with pytest.raises(
        SystemExit, match=r"^ValueError: metric='test/f1' was not measured; there are clients/test/acc/"
    ):
        main(["compare", written(metric="test/f1")])


def test_a_misspelled_metric_ends_the_comparison_after_its_first_run():
    with pytest.raises(
        SystemExit, match=r"^ValueError: metric='shared/test/accuracy/mean' was not measured; there"
    ):
        main(["compare", written(metric="shared/test/accuracy/mean")])
    assert len(list(Path("out").rglob("result.json"))) == 1  # of two


def test_two_comparisons_do_not_share_a_folder(monkeypatch):
    def meanwhile(*_, **__):
        with pytest.raises(SystemExit, match=r"^ValueError: another comparison is at work in out"):
            main(["compare", written()])
        return put_results(*_)

    monkeypatch.setattr(command, "carry_out", meanwhile)
    main(["compare", written()])


def test_a_base_that_logs_to_wandb_has_the_tables_there(monkeypatch, capsys):
    monkeypatch.setattr(command, "carry_out", put_results)
    logger = [
        "--trainer.logger=WandbLogger",
        "--trainer.logger.project=lkd",
        "--trainer.logger.save_dir=logged",
    ]
    Path("logged").mkdir()
    main(["compare", written(overrides=[*QUICK, *logger])])
    assert "W&B has the tables, too (offline: " in capsys.readouterr().out
    (table,) = Path("logged").rglob("media/table/compare/results_*.table.json")
    found = json.loads(table.read_text())
    place = found["columns"].index("shared/test/acc/mean")
    assert [row[place] for row in found["data"]] == pytest.approx([0.72, 0.63])
    assert [*Path("logged").rglob("media/html/compare/report_*.html")]


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_comparison_says_what_is_done(monkeypatch, capsys, name):
    number = getattr(signal, name)
    if number == signal.SIGHUP:  # the tests themselves may run under nohup
        monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)

    def interrupted(jobs, *_, **__):
        put_results(jobs[:1])
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(command, "carry_out", interrupted)
    before = signal.signal(number, signal.default_int_handler)
    signal.signal(number, before)
    with pytest.raises(SystemExit) as ended:
        main(["compare", written()])
    assert ended.value.code == 128 + number
    assert "Interrupted: 1 of 2 runs are done and stay; the same command goes on." in capsys.readouterr().err
    assert signal.signal(number, before) is before and not Path("out/report.html").exists()


def test_the_digits_with_one_seed_and_two_rounds(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    methods = read("configs/tradeoff/digits.yaml").methods.keys()
    short = ["--seeds", "0", "--trainer.max_epochs=2", "--model.local.epochs=1"]
    mhd = "--model.local.steps=null"  # its config counts steps
    main(["compare", "configs/tradeoff/digits.yaml", "--folder", str(tmp_path), "--jobs", "2", *short, mhd])
    monkeypatch.chdir(tmp_path)
    Path("out").symlink_to(tmp_path)
    found, sizes = ({row["method"]: row for row in rows(name)} for name in ("results", "break_even"))
    assert found.keys() == methods
    assert all(0 < float(row["shared/test/acc/mean"]) <= 1 for row in found.values())
    assert {m for m, row in found.items() if not row["test/acc"]} == {
        "isolated",
        "FedMD",
        "FedProto",
        "MHD on a ring",
    }
    assert [m for m, row in found.items() if not row["bytes"]] == ["isolated", "centralized"]
    assert (
        float(found["FedMD"]["bytes"])
        < float(found["FedAvg"]["bytes"])
        < float(found["MHD on a ring"]["bytes"])
    )
    assert float(sizes["FedMD"]["values_up"]) == 10 and int(sizes["FedMD"]["break_even"]) == 480
    assert float(sizes["MHD on a ring"]["values_down"]) == pytest.approx(5 * 10 + 64, rel=0.01)
    assert Path("report.html").stat().st_size > 50_000
