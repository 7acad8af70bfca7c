import gzip
import shutil
import tarfile

import pytest
import torch
from PIL import Image

from lkd.datamodules import CNRParkEXT
from lkd.datamodules.detection.cnrpark_files import REMOTES
from lkd.datamodules.detection.cnrpark_layout import slot_boxes
from lkd.datamodules.io.download import Remote
from lkd.datamodules.io.files import find
from lkd.slot_labels import read_patches


def detection(root, **kwargs):
    module = CNRParkEXT(str(root), image_size=64, **{"fractions": (0.5, 0.25, 0.25)} | kwargs)
    module.prepare_data()
    module.setup()
    return module


def patches(root, **kwargs):
    return detection(root, task="patches", batch_size=4, patch_size=32, **kwargs)


def test_busy_slots_are_scaled_and_joined_by_time(park):
    """Slot 2 is always busy, slots 1 and 3 in the fourth frame of a day; boxes as shares of 2592x1944."""
    module = detection(park)
    frames = module.annotate(module.frames())
    assert len(frames) == 16 and module.cameras == ["C1", "C2"]
    for frame in frames:
        assert len(frame.boxes) == (2 if frame.time.endswith("T03:07") else 1)
        assert frame.weather == {"2015-11-12": "sunny", "2015-12-22": "rainy"}[frame.time[:10]]
    first = next(frame for frame in frames if frame.camera == "C1" and frame.time == "2015-11-12T00:07")
    torch.testing.assert_close(
        first.boxes, torch.tensor([[518 / 2592, 194 / 1944, 777 / 2592, 388 / 1944]]), atol=1e-6, rtol=0
    )


def test_what_calibrates_a_student_of_patches_are_the_training_patches_in_order(park):
    module = patches(park)
    x, y = (torch.cat(parts) for parts in zip(*module.unlabeled_dataloader(), strict=True))
    expected = [module.patches.datasets["train"][row] for row in range(16)]
    assert torch.equal(x, torch.stack([x for x, _ in expected])) and y.tolist() == [
        int(y) for _, y in expected
    ]


def test_nested_and_gzipped_files_are_found(park, tmp_path):
    module = detection(park)
    plain = {(frame.camera, frame.time): frame.boxes for frame in module.annotate(module.frames())}
    outer = park / "CNR-EXT_FULL_IMAGE_100x75"
    outer.mkdir()
    shutil.move(park / "FULL_IMAGE_100x75", outer / "FULL_IMAGE_100x75")
    for name in ("camera1.csv", "camera2.csv"):
        shutil.move(park / name, outer / name)
    text = (park / "LABELS" / "all.txt").read_bytes()
    shutil.rmtree(park / "LABELS")
    (park / "all.reconstructed.txt.gz").write_bytes(gzip.compress(text))
    (park / "CNR-EXT-Patches-150x150").mkdir()
    shutil.move(park / "PATCHES", park / "CNR-EXT-Patches-150x150" / "PATCHES")
    module = detection(park)
    for frame in module.annotate(module.frames()):
        assert torch.equal(frame.boxes, plain[frame.camera, frame.time])
    assert len(patches(park).splits.train) == 16


def test_the_official_csv_serves_as_well(park):
    expected = read_patches(park / "LABELS" / "all.txt")
    rows = ["camera,datetime,day,hour,image_url,minute,month,occupancy,slot_id,weather,year,occupant_changed"]
    rows += ["A,20150703_0805,3,8,CNRPark/A/free/20150703_0805_1.jpg,5,7,0,1,S,2015,"]
    for patch in expected:
        rows.append(f"01,,12,7,CNR-EXT/PATCHES/{patch.path},9,11,{patch.label},{patch.slot},S,2015,")
    shutil.rmtree(park / "LABELS")
    (park / "CNRPark+EXT.reconstructed_EXT_rows.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    assert read_patches(park / "CNRPark+EXT.reconstructed_EXT_rows.csv.gz") == expected
    assert len(detection(park).datasets["train"]) == 8


def test_frames_in_which_no_slot_is_labeled_are_left_out(park):
    lines = (park / "LABELS" / "all.txt").read_text().splitlines()
    kept = [line for line in lines if "2015-11-12_00.07" not in line]
    (park / "LABELS" / "all.txt").write_text("\n".join(kept))
    with pytest.warns(UserWarning, match="left out 2 frames in which no slot is labeled"):
        module = detection(park)
    assert len(module.datasets["train"]) == 6


def test_tight_boxes_of_a_world(park):
    with pytest.raises(FileNotFoundError, match=r"targets=busy_slots"):
        detection(park, targets="cars")
    for frame in detection(park).frames():
        weather, day, camera = frame.path.parts[-4:-1]
        path = park / "boxes" / weather / day / camera / f"{frame.path.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0.5 0.5 0.2 0.4\n")
    batch = next(iter(detection(park, targets="cars").test_dataloader()))
    torch.testing.assert_close(
        batch["targets"][0]["boxes"], torch.tensor([[0.4 * 64, 0.3 * 48, 0.6 * 64, 0.7 * 48]])
    )


def test_selection_by_camera_weather_and_day(park):
    assert {frame.weather for part in detection(park, weathers=["rainy"]).splits for frame in part} == {
        "rainy"
    }
    module = detection(park, cameras=["C2"], days=["2015-11-01..2015-11-30"])
    assert {(frame.camera, frame.time[:10]) for part in module.splits for frame in part} == {
        ("C2", "2015-11-12")
    }
    for arguments, match in (
        ({"weathers": ["suny"]}, "did you mean sunny"),
        ({"days": ["yesterday"]}, "neither a date"),
        ({"days": ["2014-01-01"]}, "leave nothing"),
        ({"cameras": ["C3"]}, "did you mean C"),
        ({"task": "patch"}, "did you mean patches"),
        ({"targets": "slots"}, "did you mean busy_slots"),
    ):
        with pytest.raises(ValueError, match=match):
            detection(park, **arguments)


def test_frames_are_split_by_whole_days(park):
    """Two days: all cameras learn from the first and are tested on the second."""
    module = detection(park, split="by_day", fractions=(0.5, 0.0, 0.5))
    days = [{(frame.camera, frame.time[:10]) for frame in part} for part in module.splits]
    assert days == [
        {("C1", "2015-11-12"), ("C2", "2015-11-12")},
        set(),
        {("C1", "2015-12-22"), ("C2", "2015-12-22")},
    ]
    with pytest.raises(ValueError, match="split: 'official' is not among"):
        detection(park, split="official")


def test_patches(park):
    module = patches(park)
    assert [len(part) for part in module.splits] == [16, 8, 8] and module.cameras == ["C1", "C2"]
    names = [{patch.path for patch in part} for part in module.splits]
    assert len(set.union(*names)) == 32
    times = [{patch.time for patch in part} for part in module.splits]
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        for x, y in loader:
            slots = ((x[:, 0, 16, 16] * 255 - 50) / 40).round()  # the fixture paints the slot into red
            assert x.shape == (4, 3, 32, 32) and y.dtype == torch.int64
            assert (y[slots == 2] == 1).all()
    truth = {patch.path: patch.label for patch in read_patches(park / "LABELS" / "all.txt")}
    assert all(truth[patch.path] == patch.label for part in module.splits for patch in part)


def test_official_split(park):
    folder = park / "splits" / "CNRPark-EXT"
    lines = (park / "LABELS" / "all.txt").read_text().splitlines()
    folder.mkdir(parents=True)
    for name, part in (("train", lines[:20]), ("val", lines[20:24]), ("test", lines[24:])):
        (folder / f"{name}.txt").write_text("\n".join(part))
    module = patches(park, split="official")
    assert [len(part) for part in module.splits] == [20, 4, 8]
    assert [patch.path for patch in module.splits.val] == [line.split()[0] for line in lines[20:24]]


def test_shared_slots_leave_the_test(park):
    """Slot 2 is seen by both cameras: a test on C2 after training on C1 keeps slot 3 only."""
    leaky = patches(park, cameras=["C1"], test_cameras=["C2"])
    assert {patch.slot for patch in leaky.splits.test} == {2, 3}
    clean = patches(park, cameras=["C1"], test_cameras=["C2"], exclude_shared_slots=True)
    assert {(patch.camera, patch.slot) for patch in clean.splits.test} == {("C2", 3)}
    assert {patch.camera for patch in clean.splits.train} == {"C1"}
    both = patches(park, exclude_shared_slots=True)
    assert {(patch.camera, patch.slot) for patch in both.splits.test} == {("C1", 1), ("C2", 3)}


def test_black_patches_are_dropped_and_counted(park):
    path = next((park / "PATCHES" / "SUNNY").rglob("*_00.07_C01_1.jpg"))
    Image.new("RGB", (150, 150)).save(path)
    with pytest.warns(UserWarning, match="left out 1 all-black patches"):
        module = patches(park)
    assert len(module.splits.train) == 15


def test_a_patch_that_is_missing_is_named_before_training(park):
    next((park / "PATCHES" / "SUNNY").rglob("*_00.07_C01_1.jpg")).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"names the patch .*_00\.07_C01_1\.jpg, which is not there: unpack"
    ):
        patches(park)


def test_damaged_list(park):
    with (park / "LABELS" / "all.txt").open("a") as file:
        file.write("SUNNY/2015-11-12/camera1/S_2015-11-12_07.09_C01_184.jpg 2\n")
    with pytest.raises(ValueError, match=r"all\.txt, line 33: .*184\.jpg 2' is not"):
        detection(park)


@pytest.mark.parametrize("task", ["detection", "patches"])
def test_missing_data_says_what_to_do(tmp_path, task):
    module = CNRParkEXT(str(tmp_path / "none"), task=task)
    with pytest.raises(FileNotFoundError, match=r"--data\.download=true to fetch it, or unpack https://"):
        module.prepare_data()
    with pytest.raises(FileNotFoundError, match="none"):
        module.setup("fit")


def test_missing_data_is_fetched_and_unpacked(park, tmp_path, monkeypatch):
    """From file:// addresses, in the nested form of the real archive; the list is no archive."""
    with tarfile.open(tmp_path / "frames.tar", "w") as file:
        file.add(park / "FULL_IMAGE_100x75", "CNR-EXT_FULL_IMAGE_100x75/FULL_IMAGE_100x75")
        for name in ("camera1.csv", "camera2.csv"):
            file.add(park / name, f"CNR-EXT_FULL_IMAGE_100x75/{name}")
    rows = ["camera,image_url,occupancy"]
    rows += [f"01,CNR-EXT/PATCHES/{p.path},{p.label}" for p in read_patches(park / "LABELS" / "all.txt")]
    (tmp_path / "CNRPark+EXT.csv").write_text("\n".join(rows))
    monkeypatch.setitem(REMOTES, "frames", Remote((tmp_path / "frames.tar").as_uri()))
    monkeypatch.setitem(REMOTES, "labels", Remote((tmp_path / "CNRPark+EXT.csv").as_uri()))
    module = detection(tmp_path / "new" / "place", download=True)
    assert sum(map(len, module.splits)) == 16
    here = detection(park)
    assert [len(f.boxes) for f in module.datasets["val"].frames] == [
        len(f.boxes) for f in here.datasets["val"].frames
    ]


def test_addresses():
    base = "https://github.com/fabiocarrara/deep-parking/releases/download/archive/"
    assert {remote.url.removeprefix(base) for remote in REMOTES.values()} == {
        "CNRPark+EXT.csv",
        "CNR-EXT-Patches-150x150.zip",
        "CNR-EXT_FULL_IMAGE_1000x750.tar",
        "splits.zip",
    }


def test_sample_frames_agree_with_their_yolo_labels(sample):
    """320 slots; the busy ones and their boxes agree with independently made YOLO files at 1000x750."""
    root = sample("cnrpark_ext")
    slots = slot_boxes(root)
    assert [len(slots[f"C{n}"]) for n in range(1, 10)] == [35, 9, 21, 37, 46, 44, 46, 54, 28]
    assert len({slot for boxes in slots.values() for slot in boxes}) == 164
    module = detection(root, fractions=(1.0, 0.0, 0.0))
    frames = module.datasets["train"].frames
    assert len(frames) == 9 and sum(len(frame.boxes) for frame in frames) == 145
    for frame in frames:
        name = f"camera{frame.camera[1:]}_{frame.path.stem}.txt"
        rows = [line.split() for line in (root / "labels_yolo" / name).read_text().splitlines()]
        x, y, w, h = torch.tensor([[float(v) for v in row[1:]] for row in rows if row[0] == "1"]).T
        expected = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        scale = torch.tensor([1000, 750, 1000, 750])
        distance = torch.cdist(frame.boxes * scale, expected * scale, p=float("inf"))
        assert distance.shape[0] == distance.shape[1]
        assert (distance.min(0).values < 0.01).all() and (distance.min(1).values < 0.01).all()


def test_sample_labels_count(sample):
    """144,965 labels, 65,658 free and 79,307 busy, both from the list and from the CSV, and equal."""
    root = sample("cnrpark_ext")
    text = read_patches(find(root, ["all*.txt.gz"])[0])
    table = read_patches(find(root, ["CNRPark+EXT*.csv.gz"])[0])
    assert len(text) == 144_965 and sum(patch.label for patch in text) == 79_307
    assert set(text) == set(table)


def test_sample_patches(sample):
    module = patches(sample("cnrpark_patches"), fractions=(1.0, 0.0, 0.0))
    assert len(module.splits.train) == 320 and sum(patch.label for patch in module.splits.train) == 145
    x, _ = next(iter(module.train_dataloader()))
    assert x.shape == (4, 3, 32, 32) and 0.05 < x.mean() < 0.95
