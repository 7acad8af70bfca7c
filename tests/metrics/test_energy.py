"""EnergyMeter with a codecarbon that only counts how it is used, and without one."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from lkd.metrics import energy
from lkd.metrics.energy import EnergyMeter


@pytest.fixture
def codecarbon(monkeypatch):
    calls = []

    class Tracker:
        final_emissions_data = SimpleNamespace(energy_consumed=2e-5)

        def __init__(self, **options):
            assert options["save_to_file"] is False and options["tracking_mode"] == "process"

        def start(self):
            calls.append("start")

        def stop(self):
            calls.append("stop")

    module = ModuleType("codecarbon")
    module.OfflineEmissionsTracker = Tracker
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    monkeypatch.setattr(energy, "find_spec", lambda name: object())
    return calls


def test_it_is_started_and_stopped_once(codecarbon):
    meter = EnergyMeter()
    meter.start()
    meter.start()
    assert meter.stop() == pytest.approx(0.02)  # watt-hours
    assert meter.stop() is None
    assert codecarbon == ["start", "stop"]


def test_without_codecarbon_there_is_nothing_to_tell(monkeypatch):
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    meter = EnergyMeter()
    meter.start()
    assert meter.stop() is None


def test_a_meter_that_never_began_has_nothing_to_tell(codecarbon):
    assert EnergyMeter().stop() is None and codecarbon == []
