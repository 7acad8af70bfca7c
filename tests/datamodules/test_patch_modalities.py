"""Patches as several modalities: what each holds, for whom it is there, and that no day or slot leaks."""

import math
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.datamodules import FederatedDataModule, ModalityPlan, Natural, ParkingWorld
from lkd.datamodules.modalities.slot_context import context_of, context_size
from lkd.datamodules.samples.splits import by_day
from lkd.slot_labels import Patch

from ..parks import DAYS, park, write_park


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_park(tmp_path_factory.mktemp("park"))


def test_a_batch_is_a_dict_of_what_was_asked_for(root):
    x, y = next(iter(park(root).train_dataloader()))
    assert {m: tuple(v.shape) for m, v in x.items()} == {
        "rgb": (4, 3, 24, 24),
        "gray": (4, 1, 8, 8),
        "thermal": (4, 1, 24, 24),
        "context": (4, 16),
    }
    assert y.dtype == torch.int64 and all(v.dtype == torch.float32 for v in x.values())
    assert all(0 <= float(x[m].min()) and float(x[m].max()) <= 1 for m in ("rgb", "gray", "thermal"))


def test_gray_is_the_luma_of_the_picture_and_colors_are_those_of_plain_patches(root):
    modal, plain = park(root).patches.datasets["train"], park(root, None).patches.datasets["train"]
    small = park(root, None, patch_size=8).patches.datasets["train"]
    for row in (0, 5):
        x, y = modal[row]
        colors, label = plain[row]
        assert torch.equal(x["rgb"], colors) and y == label
        red, green, blue = small[row][0]
        luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
        torch.testing.assert_close(x["gray"][0], luma, rtol=0, atol=1.5 / 255)


def test_a_sensors_picture_is_that_of_the_same_slot_and_moment(root):
    dataset = park(root).patches.datasets["train"]
    x, _ = dataset[list(range(len(dataset)))]
    slots = torch.tensor(dataset.columns["slot"]).float()
    torch.testing.assert_close(x["thermal"].mean((1, 2, 3)), 10 * slots / 255)


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (np.linspace(28000, 32000, 64, dtype=np.uint16).reshape(8, 8), r"has more than 8 bits a channel"),
        (None, r"is damaged and cannot be decoded"),
    ],
)
def test_a_sensors_picture_that_cannot_be_read_right_is_named(tmp_path, picture, sentence):
    """Raw thermal pictures have 16 bits: cut to 8 they would be white."""
    root = write_park(tmp_path, cameras=(1,))
    for path in (root / "PATCHES_THERMAL").rglob("*.png"):
        if picture is None:
            path.write_bytes(b"no picture")
        else:
            Image.fromarray(picture).save(path)
    with pytest.raises(ValueError, match=rf"PATCHES_THERMAL/.*\.png {sentence}"):
        next(iter(park(root).train_dataloader()))


def test_one_sample_is_a_row_of_the_batch_and_keeping_changes_nothing(root):
    kept = park(root, keep_in_memory=True).patches.datasets["train"]
    dataset = park(root).patches.datasets["train"]
    for _ in range(2):
        x, y = kept[[6, 2]]
        for place, row in enumerate((6, 2)):
            one, label = dataset[row]
            assert label == y[place] and all(torch.equal(one[m], x[m][place]) for m in one)
    assert not dataset._kept and set(kept._kept) == {2, 6}


def test_workers_load_the_same(root):
    alone, many = park(root), park(root, num_workers=2)
    for (x, y), (u, v) in zip(alone.train_dataloader(), many.train_dataloader(), strict=True):
        assert torch.equal(y, v) and all(torch.equal(x[m], u[m]) for m in x)


def test_context_alone_opens_no_picture(root, monkeypatch):
    data = park(root, ["context"])
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    x, _ = next(iter(data.train_dataloader()))
    assert list(x) == ["context"]


def test_the_context_of_a_known_moment():
    patch = Patch("x.jpg", "C3", "2015-11-18T15:30", "rainy", 7, 1)  # a Wednesday
    assert datetime(2015, 11, 18).strftime("%A") == "Wednesday"
    turn, week = 2 * math.pi * 15.5 / 24, 2 * math.pi * 2 / 7
    expected = [0, 0, 1, math.sin(turn), math.cos(turn), math.sin(week), math.cos(week), 0, 0, 1, *[0] * 6]
    assert context_of(patch, ["weather", "hour", "weekday", "camera"]) == pytest.approx(expected)
    elsewhere = patch._replace(camera="C17", label=0, slot=9)
    assert context_of(elsewhere, ["camera"]) == [0.0] * 9
    assert context_of(elsewhere, ["weather", "hour"]) == context_of(patch, ["weather", "hour"])
    assert context_size(["weather", "camera"]) == 12


def test_fields_are_in_one_order_whatever_was_asked_for(root):
    first = park(root, ["context"], context=["hour", "weather"]).patches.datasets["train"]
    assert (
        torch.equal(first[0][0]["context"][:3], torch.tensor([1.0, 0.0, 0.0]))
        and len(first[0][0]["context"]) == 5
    )


def test_a_patch_without_a_sensors_file_lacks_the_modality(tmp_path):
    lost = {(1, DAYS[0], 8, 3), (2, DAYS[1], 14, 4)}
    dataset = park(write_park(tmp_path, lost=lost)).patches.datasets["train"]
    x, _ = dataset[list(range(len(dataset)))]
    gone = ~x["present"]["thermal"]
    who = {
        (int(p.camera[1:]), p.time[:10], int(p.time[11:13]), p.slot)
        for p, missing in zip(dataset.patches, gone.tolist(), strict=True)
        if missing
    }
    assert who == lost and not x["thermal"][gone].any() and x["thermal"][~gone].flatten(1).any(1).all()
    assert list(x["present"]) == ["thermal"] and set(dataset.present) == {"thermal"}


def test_a_sensor_that_nobody_has_is_an_error_in_a_sentence(root):
    with pytest.raises(FileNotFoundError, match=r"modality 'depth': .* has no file such as PATCHES_DEPTH/"):
        park(root, ["rgb", "depth"])


def test_no_day_is_in_two_parts_and_cameras_share_days(root):
    splits = park(root).splits
    days = [{patch.time[:10] for patch in part} for part in splits]
    assert [len(part) for part in days] == [3, 1, 1] and len(set.union(*days)) == 5
    assert max(days[0]) < min(days[1]) and max(days[1]) < min(days[2])
    for part, of_part in zip(splits, days, strict=True):
        for camera in ("C1", "C2"):
            assert {patch.time[:10] for patch in part if patch.camera == camera} == of_part


def test_a_slot_that_two_cameras_see_is_in_one_part_each_day(root):
    """Cameras 1 and 2 look at the slots 3 and 4: split by time of each camera, half an hour could part them."""
    where = {}
    for name, part in park(root).splits._asdict().items():
        for patch in part:
            where.setdefault((patch.slot, patch.time[:10]), set()).add(name)
    assert all(len(parts) == 1 for parts in where.values())


@pytest.mark.parametrize(
    ("count", "fractions", "expected"),
    [
        (5, (0.6, 0.2, 0.2), (3, 1, 1)),
        (3, (0.9, 0.05, 0.05), (1, 1, 1)),
        (4, (0.98, 0.0, 0.02), (3, 0, 1)),
        (6, (0.5, 0.17, 0.33), (3, 1, 2)),
        (7, (0.0, 0.0, 1.0), (0, 0, 7)),
        (10, (0.05, 0.9, 0.05), (1, 8, 1)),
    ],
)
def test_days_are_shared_out_and_nobody_with_a_share_goes_without(count, fractions, expected):
    patches = [Patch("", "C1", f"2015-11-{day:02d}T08:00", "sunny", 1, 0) for day in range(1, count + 1)]
    assert tuple(map(len, by_day(patches, fractions))) == expected


def test_fewer_days_than_parts(tmp_path):
    root = write_park(tmp_path, days=DAYS[:2])
    with pytest.raises(
        ValueError, match=r"split='by_day' .* needs 3 days at least, and there are 2: 2015-11-12, 2015-11-13"
    ):
        park(root)
    assert len(park(root, fractions=(0.5, 0.0, 0.5)).splits.test)


def test_cameras_with_a_plan(root):
    plan = ModalityPlan([["rgb", "context"], ["thermal"]], missing=0.3)
    data = FederatedDataModule(park(root), Natural("camera"), plan=plan)
    data.setup("fit")
    (x, _), (u, _) = (next(iter(client.train_batches(0))) for client in data.clients)
    assert set(x) == {"rgb", "context", "present"} and set(u) == {"thermal", "present"}
    assert data.clients[0].present["thermal"] == 0 and data.clients[1].present["thermal"] == 12


def test_the_rendered_world_by_day_with_context(tmp_path):
    world = {"cameras": ["C1"], "frames": 18, "size": [96, 72]}
    data = ParkingWorld(
        str(tmp_path / "world"), task="patches", split="by_day", modalities=["gray", "context"], **world
    )
    data.prepare_data()
    data.setup("fit")
    x, _ = next(iter(data.train_dataloader()))
    assert x["gray"].shape[1:] == (1, 32, 32) and x["context"].shape[1] == 16


def test_real_patches():
    folder = Path(os.environ.get("LKD_DATA", "data")) / "cnrpark_patches"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set LKD_DATA to where it is")
    data = park(folder, ["rgb", "gray", "context"], split="by_time", fractions=(1.0, 0.0, 0.0))
    x, _ = next(iter(data.train_dataloader()))
    assert x["gray"].std() > 0.05 and x["context"][:, :3].sum(1).eq(1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": ["grey"]}, "modalities: 'grey' is not among .* did you mean gray"),
        ({"modalities": []}, r"modalities=\[\] selects nothing"),
        ({"context": ["clouds"]}, "context: 'clouds' is not among"),
        ({"gray_size": 0}, "gray_size=0 must be 1 or more"),
        ({"split": "by_week"}, "split='by_week' must be 'by_time', 'by_day' or 'official'"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(root, given, message):
    with pytest.raises(ValueError, match=message):
        park(root, **{"modalities": ["rgb"], **given})


def test_a_part_of_the_days_without_a_sensor_lacks_it_and_the_others_have_it(tmp_path):
    lost = {(camera, DAYS[4], hour, slot) for camera in (1, 2) for hour in (8, 14) for slot in (3, 4)}
    data = park(write_park(tmp_path, lost=lost), ["gray", "thermal"])
    train, test = (data.patches.datasets[part] for part in ("train", "test"))
    assert train.present is None and not test.present["thermal"].any() and len(test) == len(lost)
