import os
import sys

import pytest
import torch

from lkd.datamodules.world import write_world
from lkd.datamodules.world.processes import drawn
from lkd.datamodules.world.progress import announce

forked = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def note_in(folder):
    return lambda job: (folder / job).write_text(str(os.getpid()))


def pids(folder):
    return {path.name: int(path.read_text()) for path in folder.iterdir()}


@forked
def test_groups_are_drawn_side_by_side_each_by_one_process(threads, tmp_path):
    threads(2)
    state = torch.get_rng_state()
    assert sorted(drawn([["a", "b"], ["c"]], note_in(tmp_path))) == [1, 2]
    who = pids(tmp_path)
    assert set(who) == {"a", "b", "c"}
    assert who["a"] == who["b"] != who["c"]
    assert os.getpid() not in who.values()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("count", "groups"), [(1, [["a", "b"], ["c"]]), (4, [["a", "b", "c"]])])
def test_one_thread_or_one_group_is_drawn_here_frame_by_frame(count, groups, threads, tmp_path):
    threads(count)
    steps = drawn(groups, note_in(tmp_path))
    assert next(steps) == 1
    assert pids(tmp_path) == {"a": os.getpid()}
    assert list(steps) == [1, 1]
    assert pids(tmp_path) == dict.fromkeys("abc", os.getpid())


def test_elsewhere_nothing_is_forked(threads, tmp_path, monkeypatch):
    threads(2)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert list(drawn([["a"], ["b"]], note_in(tmp_path))) == [1, 1]
    assert set(pids(tmp_path).values()) == {os.getpid()}


@forked
def test_a_mistake_in_a_process_is_raised_here(threads):
    threads(2)

    def draw(job):
        raise ValueError(f"no ink for {job}")

    with pytest.raises(ValueError, match="no ink for"):
        list(drawn([["a"], ["b"]], draw))


@forked
def test_a_world_is_the_same_to_the_byte_with_one_process_and_with_two(threads, tmp_path):
    given = {"frames": 7, "seed": 3, "size": (64, 48), "patches": True, "views": ["depth"]}
    worlds = []
    for count in (1, 2):
        threads(count)
        root = tmp_path / str(count)
        write_world(root, ["C1", "C102", "C2"], **given)
        worlds.append({p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()})
    assert len(worlds[0]) > 3 * 7 * 3
    assert worlds[0] == worlds[1]


def test_steps_of_several_frames_are_said_by_quarters(caplog):
    with caplog.at_level("INFO", "lkd"):
        announce(iter([3, 1, 3, 3]), 10, "Drawing")
    assert [record.getMessage() for record in caplog.records] == [
        "Drawing: 0 of 10 frames.",
        "Drawing: 3 of 10 frames.",
        "Drawing: 7 of 10 frames.",
        "Drawing: done.",
    ]


def test_nothing_is_said_of_a_drawing_without_frames(caplog):
    with caplog.at_level("INFO", "lkd"):
        announce(iter([]), 0, "Drawing")
    assert not caplog.records
