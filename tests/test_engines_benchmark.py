"""The benchmark of the engines on its smallest workload: it runs, and its table has a ratio for each engine."""

import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[1] / "benchmarks/engines.py"


@pytest.fixture
def engines(monkeypatch):
    spec = importlib.util.spec_from_file_location("engines", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # the suite's own
    return module


def test_every_engine_has_a_ratio(engines, monkeypatch):
    tables = []
    monkeypatch.setattr(engines, "print_table", lambda rows, title: tables.append(rows))
    engines.main(["--workloads", "W2, 100 ", "--repeats", "1", "--rounds", "1"])
    (row,) = tables[-1]
    assert row["Workload"] == "W2, 100 a round"
    assert all(float(row[f"{name}, ratio"]) > 0 for name in engines.ENGINES)


@pytest.mark.parametrize("name", ["W1, 10 a round", "W3"])
def test_networks_take_their_samples(engines, name):
    work = engines.WORKLOADS[name]
    assert work.network()(torch.zeros(2, *work.shape)).shape == (2, 10)
