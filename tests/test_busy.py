"""Threads wait without spinning where other work holds the cores, and nobody else has chosen."""

import sys

import pytest

from lkd import busy
from lkd.busy import wait_without_spinning


def test_a_busy_machine():
    chosen = {"OMP_NUM_THREADS": "2"}
    said = wait_without_spinning(chosen, load=3.0, cores=2)
    assert chosen["OMP_WAIT_POLICY"] == "PASSIVE"
    assert said is not None and "2 cores (load 3.0)" in said and "\n" not in said


@pytest.mark.parametrize(
    ("environment", "load"),
    [
        ({}, 0.9),
        ({"OMP_NUM_THREADS": "1"}, 9.0),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 9.0),
        ({"GOMP_SPINCOUNT": "1000"}, 9.0),
        ({"KMP_BLOCKTIME": "0"}, 9.0),
    ],
)
def test_what_is_left_as_it_is(environment, load):
    before = dict(environment)
    assert wait_without_spinning(environment, load, cores=2) is None and environment == before


def test_too_late_once_torch_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(busy.os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    monkeypatch.setattr(busy.os, "environ", environment := {})
    monkeypatch.setitem(sys.modules, "torch", object())
    busy.prepare_threads()
    assert environment == {} and capsys.readouterr().err == ""
    monkeypatch.delitem(sys.modules, "torch")
    busy.prepare_threads()
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"} and "load 99.0" in capsys.readouterr().err
