"""The benchmarks of encoding and of slots: sizes that order themselves, and shares that can be counted by hand."""

import importlib
import sys
from pathlib import Path

import pytest

from .roads import write_roads


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    yield importlib.import_module
    for name in ("encoding", "slot_reuse"):
        sys.modules.pop(name, None)


def test_every_way_is_timed_and_more_quality_is_more_bytes(script, tmp_path, monkeypatch, capsys):
    folder = write_roads(tmp_path / "roads", count=2, size=(360, 640)) / "images"
    monkeypatch.setattr(sys, "argv", ["encoding.py", str(folder), "--every", "2"])
    script("encoding").main()
    header, _, *lines = [
        line.strip("| ").split(" | ") for line in capsys.readouterr().out.strip().split("\n")
    ]
    rows = {line[0]: dict(zip(header[1:], map(float, line[1:]), strict=True)) for line in lines}
    assert list(rows) == ["jpeg 50", "jpeg 80", "jpeg 95", "webp 50", "webp 70", "webp 90", "png"]
    assert all(value > 0 for row in rows.values() for value in row.values())
    for name in ("640 px: kB", "320 px: kB", "a tile: kB"):
        kb = [row[name] for row in rows.values()]
        assert kb[0] < kb[1] < kb[2] < kb[-1] and kb[3] < kb[4] < kb[5] < kb[-1]
    assert all(row["320 px: kB"] < row["640 px: kB"] for row in rows.values())


def test_states_are_compared_with_those_of_the_same_slot_and_day(script, tmp_path):
    def line(hour, minute, slot, busy, day=12):
        return f"SUNNY/2015-11-{day}/camera1/S_2015-11-{day}_{hour:02d}.{minute:02d}_C01_{slot}.jpg {busy}"

    # slot 1 changes between 8:00 and 8:30, and is as it was at 9:00; slot 2 never does; another day's slot 1 has no partner
    lines = [line(8, 0, 1, 0), line(8, 30, 1, 1), line(9, 0, 1, 0), *(line(8, m, 2, 1) for m in (0, 30))]
    path = tmp_path / "all.txt"
    path.write_text("\n".join([*lines, line(8, 0, 1, 1, day=13)]))
    found = {row["hours"]: row for row in script("slot_reuse").states(path)}
    assert (found[0.5]["pairs"], found[0.5]["in another state"]) == (3, "66.7%")
    assert (found[1.0]["pairs"], found[1.0]["in another state"]) == (1, "0.0%")
    assert (found[2.0]["pairs"], found[2.0]["in another state"]) == (0, None)
