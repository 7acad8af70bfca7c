import csv
import re
import shutil
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import lkd.datamodules.world.stage as stage_module
from lkd.datamodules.world import write_world
from lkd.datamodules.world.render import OVER, SMALLEST, VISIBLE, render
from lkd.datamodules.world.scene import make_scene, occupancy, parked
from lkd.datamodules.world.view import make_view, number
from lkd.datamodules.world.weather import WEATHERS, weather_of

SIZE = (240, 180)


def snapshot(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(root, ["C1", "C102"], frames=7, seed=3, size=SIZE, patches=True)
    return root


def frame(seed, name, index, size=SIZE):
    return render(seed, make_scene(seed, make_view(seed, name, size), index))


def test_a_frame_alone_is_the_frame_of_the_loop(root):
    for index in (6, 2):  # backwards, and in this process before and after others
        alone = np.asarray(frame(3, "C1", index).image)
        assert (alone == np.asarray(frame(3, "C1", index).image)).all()
    frame(3, "C102", 4)
    assert (alone == np.asarray(frame(3, "C1", 2).image)).all()
    assert not (alone == np.asarray(frame(4, "C1", 2).image)).all()


def test_order_and_company_do_not_change_a_byte(root, tmp_path):
    write_world(tmp_path, ["C102"], frames=7, seed=3, size=SIZE, patches=True)
    there = snapshot(root)
    mine = {k: v for k, v in snapshot(tmp_path).items() if "/camera102/" in f"/{k}" or k == "camera102.csv"}
    assert len(mine) > 14
    assert all(there[path] == content for path, content in mine.items())


@pytest.mark.parametrize("index", [1, 8, 13])
def test_boxes_are_tight_around_each_car_alone(index, monkeypatch):
    scene = make_scene(0, make_view(0, "C5", SIZE), index)
    together = render(0, scene)
    assert len(together.boxes) > 3
    assert (together.boxes[:, 2:] - together.boxes[:, :2]).min() >= SMALLEST
    ground, _ = stage_module._static(0, "C5", SIZE, scene.light.weather, scene.view.heights)
    monkeypatch.setattr(stage_module, "_static", lambda *_: (ground, []))  # no tree hides the car
    for box, car in zip(together.boxes, together.cars, strict=True):
        alone = render(0, replace(scene, cars=[scene.cars[car]], props=[])).ids
        rows, columns = np.nonzero(alone)
        np.testing.assert_allclose(
            box, np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / OVER
        )
        assert (together.ids == car + 1).sum() >= VISIBLE * rows.size


def test_the_silhouette_is_where_the_picture_changes():
    scene = make_scene(0, make_view(0, "C8", SIZE), 8)
    still = replace(scene, props=[])
    full = render(0, still)
    car = int(full.cars[np.argmax(np.prod(full.boxes[:, 2:] - full.boxes[:, :2], axis=1))])
    red, green = (
        np.asarray(
            render(
                0,
                replace(
                    still, cars=[replace(c, paint=p) if i == car else c for i, c in enumerate(scene.cars)]
                ),
            ).image
        ).astype(int)
        for p in ((230, 20, 20), (20, 230, 20))
    )
    rows, columns = np.nonzero((red != green).any(-1))
    x0, y0, x1, y1 = full.boxes[full.cars == car][0]
    assert x0 - 2 <= columns.min() and columns.max() + 1 <= x1 + 2  # 2: blur of the sensor
    assert y0 - 2 <= rows.min() and rows.max() + 1 <= y1 + 2
    assert columns.max() - columns.min() > 0.8 * (x1 - x0) and rows.max() - rows.min() > 0.6 * (y1 - y0)


def test_cars_too_hidden_have_no_box():
    scene = make_scene(0, make_view(0, "C5", SIZE), 8)
    larger = [replace(car, scale=1.3) for car in scene.cars]  # around each of them, painted later
    seen = set(render(0, replace(scene, cars=scene.cars + larger)).cars)
    assert len(render(0, scene).cars) > 5
    assert not seen & set(range(len(scene.cars)))


@pytest.mark.parametrize("index", [0, 4, 9])
def test_a_slot_is_busy_exactly_if_a_car_is_parked_in_it(index):
    view = make_view(0, "C4", SIZE)
    scene = make_scene(0, view, index)
    busy, changed = occupancy(0, view, index)
    for slot, label in zip(view.listed, busy, strict=True):
        x, y, heading = view.lot.slots[slot]
        aligned = [c for c in scene.cars if abs(np.sin(c.heading - heading)) < 0.2]
        assert label == any(np.hypot(c.x - x, c.y - y) < 0.9 for c in aligned)
    assert all(b >= c for b, c in zip(busy, changed, strict=True))
    if index == 0:
        assert not any(changed)
    else:
        was, _ = occupancy(0, view, index - 1)
        came = [b and not w for b, w in zip(busy, was, strict=True)]
        assert not any(
            c and a for c, a in zip(changed, came, strict=True)
        )  # coming to a free slot is no change


def test_occupancy_lasts_through_the_day_and_varies():
    view = make_view(0, "C4", SIZE)
    shares = [np.mean(np.array(parked(0, view, index)) >= 0) for index in range(60)]
    assert min(shares) < 0.4 < 0.7 < max(shares) < 0.97
    same = [np.mean(np.array(parked(0, view, i)) == np.array(parked(0, view, i + 1))) for i in range(5)]
    assert np.mean(same) > 0.5 and min(same) < 1


def test_weather_lasts_a_day_and_takes_turns():
    days = [{weather_of(5, 6 * day + i) for i in range(6)} for day in range(9)]
    assert all(len(day) == 1 for day in days)
    for start in (0, 3, 6):
        assert set.union(*days[start : start + 3]) == set(WEATHERS)
    assert [weather_of(s, 0) for s in range(20)].count("SUNNY") < 20


def test_names_are_those_of_cnrpark(root):
    paths = sorted(path for path in snapshot(root) if path.startswith(("FULL", "boxes")))
    frames = defaultdict(list)
    for path in paths:
        pattern = r"(FULL_IMAGE_240x180|boxes)/(SUNNY|OVERCAST|RAINY)/(2015-11-1[23])/camera(1|102)/\3_\d{4}\.(jpg|txt)"
        match = re.fullmatch(pattern, path)
        assert match and (match[1] == "boxes") == (match[5] == "txt"), path
        frames[match[1], match[4]].append(path.split("/")[-1])
    assert {len(names) for names in frames.values()} == {7}
    assert Image.open(root / paths[0]).size == SIZE
    header = "camera,datetime,day,hour,image_url,minute,month,occupancy,slot_id,weather,year,occupant_changed"
    text = (root / "CNRPark+EXT.csv").read_text()
    assert text.splitlines()[0] == header and "\r" not in text
    row = r"(\d+),(2015-11-1\d_\d\d\.\d\d),1\d,\d{1,2},CNR-EXT/PATCHES/\w+/[\d-]+/camera\d+/([SOR])_\2_C\1_(\d+)\.jpg,\d{1,2},11,(0,\4,\3,2015,|1,\4,\3,2015,[01])"
    assert all(re.fullmatch(row, line) for line in text.splitlines()[1:])
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0]["camera"] == "01" and rows[-1]["camera"] == "102"


def test_lists_agree_with_each_other_and_with_the_patches(root):
    lines = (root / "LABELS/all.txt").read_text().splitlines()
    rows = csv.DictReader((root / "CNRPark+EXT.csv").read_text().splitlines())
    assert [f"{r['image_url'].removeprefix('CNR-EXT/PATCHES/')} {r['occupancy']}" for r in rows] == lines
    patches = {path.removeprefix("PATCHES/") for path in snapshot(root) if path.startswith("PATCHES/")}
    assert patches == {line.split()[0] for line in lines}
    assert Image.open(root / "PATCHES" / lines[0].split()[0]).size == (150, 150)
    slots = [set(), set()]
    for ids, camera in zip(slots, (1, 102), strict=True):
        text = (root / f"camera{camera}.csv").read_text()
        assert re.fullmatch(r"SlotId,X,Y,W,H\n(\d+,\d+,\d+,\d+,\d+\n){12,45}", text)
        for row in csv.DictReader(text.splitlines()):
            x, y, w, h = (int(row[key]) for key in "XYWH")
            assert w > 0 and h > 0 and x + w <= 2592 and y + h <= 1944
            ids.add(row["SlotId"])
    assert not slots[0] & slots[1]


def test_written_boxes_are_the_rendered_ones(root):
    paths = sorted((root / "boxes").glob("*/*/camera1/*.txt"), key=lambda path: path.name)
    for index in (0, 6):
        rows = [line.split() for line in paths[index].read_text().splitlines()]
        assert all(row[0] == "0" for row in rows)
        read = np.array([[float(v) for v in row[1:]] for row in rows]).reshape(-1, 4) * [*SIZE, *SIZE]
        boxes = frame(3, "C1", index).boxes
        np.testing.assert_allclose(read[:, :2] - read[:, 2:] / 2, boxes[:, :2], atol=1e-3)
        np.testing.assert_allclose(read[:, :2] + read[:, 2:] / 2, boxes[:, 2:], atol=1e-3)


def test_what_is_missing_is_drawn_again_and_nothing_else(root, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    boxes, patches = sorted(copy.glob("boxes/*/*/*/*.txt")), sorted(copy.glob("PATCHES/*/*/*/*.jpg"))
    gone = [boxes[0], patches[-1]]  # two frames: one without boxes, one that lacks a patch
    for path in gone:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in copy.glob("FULL*/*/*/*/*.jpg")}
    write_world(copy, ["C1", "C102"], frames=7, seed=3, size=SIZE, patches=True)
    assert snapshot(copy) == snapshot(root)
    assert sum(path.stat().st_mtime_ns != time for path, time in kept.items()) == 2


def test_cameras_differ_and_scale_with_the_size():
    views = [make_view(0, f"C{i}", SIZE) for i in range(1, 10)]
    assert len({round(view.camera.height, 3) for view in views}) == 9
    assert all(12 <= len(view.listed) <= 45 for view in views)
    np.testing.assert_allclose(views[3].boxes, make_view(0, "C4", (480, 360)).boxes)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"cameras": []}, "cameras"),
        ({"cameras": ["C1", "C1"]}, "cameras"),
        ({"cameras": ["X1"]}, "X1"),
        ({"cameras": ["C0"]}, "C0"),
        ({"frames": 0}, "frames=0"),
        ({"seed": -1}, "seed=-1"),
        ({"size": (16, 12)}, "size"),
        ({"size": (320, 100)}, "size"),
        ({"heights": (3.0, 2.0)}, "heights"),
        ({"heights": (0.2, 2.0)}, "heights"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(arguments, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        write_world(tmp_path / "w", **{"cameras": ["C1"], "frames": 1, "seed": 0, **arguments})
    assert not (tmp_path / "w").exists()


def test_numbers_of_cameras():
    assert [number(name) for name in ("C1", "C12", "C101")] == [1, 12, 101]


def test_low_cameras_see_larger_and_flatter_cars_of_a_lot_of_their_own():
    high, low = (make_view(0, "C4", SIZE, heights) for heights in ((4.5, 11.0), (1.5, 2.5)))
    assert 1.5 <= low.camera.height <= 2.5 < high.camera.height == make_view(0, "C4", SIZE).camera.height
    ground = [stage_module.set_stage(0, make_scene(0, view, 8)).ground for view in (high, low)]
    assert np.abs(np.asarray(ground[0].image, float) - np.asarray(ground[1].image, float)).mean() > 5


def test_without_a_terminal_a_drawing_says_how_far_it_is(tmp_path, caplog):
    with caplog.at_level("INFO", "lkd"):
        write_world(tmp_path, ["C1"], frames=2, seed=0, size=(64, 48))
        said = [record.getMessage() for record in caplog.records]
        assert said[0] == f"Drawing 1 cameras into {tmp_path}: 0 of 2 frames." and said[-1].endswith("done.")
        caplog.clear()
        write_world(tmp_path, ["C1"], frames=2, seed=0, size=(64, 48))
    assert not caplog.records  # nothing was left to draw
