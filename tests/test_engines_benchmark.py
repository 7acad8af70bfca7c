"""The benchmarks of engines and of everything run with tiny numbers, and every contender has a ratio."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = ("costs", "engines", "step_cost", "bench")


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark as it is when it runs as a script, and shows the tables that it prints."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # the suite's own
    tables = []

    def load(name):
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "print_table", lambda rows, title: tables.append(rows))
        return module, tables

    yield load
    for name in MODULES:
        sys.modules.pop(name, None)


def check(rows, contenders):
    assert [row["contender"] for row in rows] == contenders
    assert all(float(row["ratio"]) > 0 and float(row["wall ms"]) > 0 for row in rows)


def test_every_engine_has_a_ratio(script):
    engines, tables = script("engines")
    engines.main(["--workloads", "W2, 100 ", "--repeats", "1", "--rounds", "1"])
    check(tables[-1], ["by hand", "Loop", "Stacked", "Auto"])
    assert {row["work"] for row in tables[-1]} == {"W2, 100 a round"}


@pytest.mark.parametrize(
    ("part", "contenders"),
    [
        ("FedMD", ["Loop", "Stacked", "Auto", "Loop"]),
        ("step", ["no teacher", "KD", "KD, FitNets, RKD"]),
        ("sum", ["float32, in order", "RunningSum", "RunningSum and its mean"]),
    ],
)
def test_every_part_has_its_rows(part, contenders, script):
    bench, tables = script("bench")
    bench.main(["--quick", "--only", part])
    check(tables[-1], contenders)


def test_detectors_are_measured_where_their_extra_is_there(script, capsys):
    bench, tables = script("bench")
    bench.main(["--quick", "--only", "W4"])
    there = bench.find_spec("ultralytics") is not None
    loaders = ["YoloFolder", "YoloFolder, cache_mb=100"]
    check(tables[-1], [*loaders, "Ultralytics, no mosaic", "Loop"] if there else loaders)
    assert there or "W4 is left out" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["W1, 10 a round", "W3"])
def test_networks_take_their_samples(script, name):
    work = script("engines")[0].WORKLOADS[name]
    assert work.network()(torch.zeros(2, *work.shape)).shape == (2, 10)
