"""The module around the drawn world; a stand-in draws nothing, so that only the glue is under test."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from lkd.datamodules import ParkingWorld


@pytest.fixture
def drawn(monkeypatch):
    """Replaces the renderer by one that notes its calls and writes the layout."""
    calls = []

    def write_world(root, cameras, frames, seed, size=(480, 360), patches=False, views=(), heights=None):
        calls.append((list(cameras), frames, seed, tuple(size), patches, *views))
        for camera in cameras:
            below = f"SUNNY/2015-11-12/camera{camera[1:]}"
            for kind in (f"FULL_IMAGE_{size[0]}x{size[1]}", "boxes"):
                (root / kind / below).mkdir(parents=True, exist_ok=True)
            for i in range(frames):
                Image.new("RGB", size).save(
                    root / f"FULL_IMAGE_{size[0]}x{size[1]}" / below / f"2015-11-12_{i:04d}.jpg"
                )
                (root / "boxes" / below / f"2015-11-12_{i:04d}.txt").write_text("0 .5 .5 .2 .2\n")

    monkeypatch.setattr("lkd.datamodules.detection.parking_world.write_world", write_world)
    return calls


def world(root, **kwargs):
    module = ParkingWorld(str(root / "world"), frames=4, size=(64, 48), image_size=32, **kwargs)
    module.prepare_data()
    return module


def test_drawn_once_and_read(drawn, tmp_path):
    module = world(tmp_path, cameras=["C2", "C1"], fractions=(0.5, 0.25, 0.25))
    module.setup("fit")
    assert drawn == [(["C1", "C2"], 4, 0, (64, 48), False)]
    assert module.cameras == ["C1", "C2"] and [len(part) for part in module.splits] == [4, 2, 2]
    assert module.datasets["train"].frames[0].boxes.shape == (1, 4)
    world(tmp_path, cameras=["C1"])
    assert len(drawn) == 1


def test_missing_cameras_are_added(drawn, tmp_path):
    world(tmp_path, cameras=["C1"])
    world(tmp_path, cameras=["C3"])
    assert drawn[1][0] == ["C1", "C3"]
    module = world(tmp_path, cameras=["C3"])
    assert len(drawn) == 2
    module.setup("fit")
    assert module.cameras == ["C3"]


def test_views_are_drawn_where_they_are_lacking_and_stay(drawn, tmp_path):
    world(tmp_path, cameras=["C1"])
    note = tmp_path / "world/world.json"
    before = json.loads(note.read_text())
    assert before.pop("views") == []
    note.write_text(json.dumps(before))  # as it was written before there were views
    world(tmp_path, cameras=["C1"])
    assert len(drawn) == 1
    world(tmp_path, cameras=["C1"], views=["thermal"])
    world(tmp_path, cameras=["C1"])
    assert len(drawn) == 2 and drawn[1][5:] == ("thermal",)
    world(tmp_path, cameras=["C2"], task="patches", modalities=["rgb", "depth"])
    assert drawn[2] == (["C1", "C2"], 4, 0, (64, 48), True, "depth", "thermal")
    with pytest.raises(ValueError, match=r"views: 'termal' is not among .* did you mean thermal"):
        world(tmp_path, views=["termal"])


def test_of_two_runs_at_once_one_draws(drawn, tmp_path):
    with ThreadPoolExecutor(2) as both:
        modules = list(both.map(lambda _: world(tmp_path, cameras=["C1"]), range(2)))
    assert len(drawn) == 1 and all(module.drawn_cameras == ["C1"] for module in modules)


def test_another_world_is_not_mixed_in(drawn, tmp_path):
    world(tmp_path, cameras=["C1"])
    with pytest.raises(ValueError, match="holds another world"):
        world(tmp_path, cameras=["C1"], world_seed=1)


def test_cameras_at_other_heights_are_another_world(drawn, tmp_path):
    world(tmp_path, cameras=["C1"], heights=(4.5, 11.0))
    assert "heights" not in json.loads((tmp_path / "world/world.json").read_text())  # as it always was
    with pytest.raises(ValueError, match="holds another world"):
        world(tmp_path, cameras=["C1"], heights=(1.5, 3.0))
    for _ in range(2):
        world(tmp_path / "low", cameras=["C1"], heights=(1.5, 3.0))
    assert len(drawn) == 2
    with pytest.raises(ValueError, match="holds another world"):
        world(tmp_path / "low", cameras=["C1"])


def test_half_a_world_is_drawn_again(drawn, tmp_path):
    world(tmp_path, cameras=["C1"])
    note = tmp_path / "world" / "world.json"
    assert json.loads(note.read_text())["cameras"] == ["C1"]
    note.write_text(json.dumps({**json.loads(note.read_text()), "cameras": []}))  # as a killed run leaves it
    world(tmp_path, cameras=["C1"])
    assert len(drawn) == 2


def test_a_killed_drawing_leaves_its_mark(monkeypatch, tmp_path):
    def die(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("lkd.datamodules.detection.parking_world.write_world", die)
    with pytest.raises(KeyboardInterrupt):
        world(tmp_path, cameras=["C1"])
    with pytest.raises(ValueError, match="holds another world"):
        world(tmp_path, cameras=["C1"], world_seed=1)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"frames": 4}'])
def test_a_damaged_note_is_named(drawn, tmp_path, text):
    world(tmp_path, cameras=["C1"])
    (tmp_path / "world/world.json").write_text(text)
    with pytest.raises(ValueError, match=r"world/world\.json is damaged .*: delete it, and .* is drawn anew"):
        world(tmp_path, cameras=["C1"])


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"'G1' must be C and a number"):
        ParkingWorld(str(tmp_path), cameras=["G1"])
    with pytest.raises(ValueError, match="frames=0"):
        ParkingWorld(str(tmp_path), frames=0)
