"""Thermal and depth beside RGB: of the same things, not of their colors, and drawn when they are asked for."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lkd.datamodules import ParkingWorld
from lkd.datamodules.world import surfaces as surfaces_module
from lkd.datamodules.world import write as write_module
from lkd.datamodules.world import write_world
from lkd.datamodules.world.depth import FARTHEST, NEAREST, measure_depth
from lkd.datamodules.world.mesh import PAINT
from lkd.datamodules.world.props import prop_mesh
from lkd.datamodules.world.render import paint, render
from lkd.datamodules.world.scene import make_scene
from lkd.datamodules.world.stage import set_stage
from lkd.datamodules.world.stays import parked, since_change
from lkd.datamodules.world.surfaces import GROUND, find_surfaces
from lkd.datamodules.world.thermal import measure_heat
from lkd.datamodules.world.view import make_view

SIZE = (240, 180)
SUNNY, OVERCAST, RAINY = 8, 14, 2  # frames of C1 in world 0


def staged(name="C1", index=SUNNY, seed=0, change=lambda scene: scene):
    return set_stage(seed, change(make_scene(seed, make_view(seed, name, SIZE), index)))


def views(stage):
    surfaces = find_surfaces(stage)
    return [np.asarray(measure(stage, surfaces)).astype(float) for measure in (measure_heat, measure_depth)]


def meters(value):
    return FARTHEST * (NEAREST / FARTHEST) ** ((value - 1) / 254)


def test_the_weathers_are_those_that_the_tests_mean():
    found = [staged(index=i).scene.light.weather for i in (SUNNY, OVERCAST, RAINY)]
    assert found == ["SUNNY", "OVERCAST", "RAINY"]


@pytest.mark.parametrize(("name", "index"), [("C1", SUNNY), ("C4", 3), ("C8", OVERCAST)])
def test_depth_is_where_the_ray_of_a_pixel_meets_the_ground(name, index):
    """Computed anew for some pixels: the point on the ray at that depth has the height 0."""
    stage = staged(name, index)
    surfaces, camera = find_surfaces(stage), stage.scene.view.camera
    rows, columns = np.nonzero(surfaces.ids == GROUND)
    for k in range(0, len(rows), len(rows) // 20):
        pixel = (np.array([columns[k], rows[k]]) + 0.5) * camera.width / SIZE[0]
        right, down, forward = camera.axes
        u, v = (pixel - np.array([camera.width, camera.height_px]) / 2) / (camera.focal * camera.width)
        point = camera.position + surfaces.depth[rows[k], columns[k]] * (u * right + v * down + forward)
        assert abs(point[2]) < 0.02 * surfaces.depth[rows[k], columns[k]]


def test_the_ground_comes_nearer_down_the_picture():
    stage = staged()
    surfaces = find_surfaces(stage)
    depth = np.where(surfaces.ids == GROUND, surfaces.depth, np.nan)
    column = depth[:, SIZE[0] // 2]
    column = column[np.isfinite(column)]
    assert len(column) > 50 and (np.diff(column) < 1e-4).all()


@pytest.mark.parametrize("index", [SUNNY, OVERCAST, RAINY])
def test_a_car_is_nearer_than_the_ground_that_it_hides(index):
    """In the pixels that a car changes, its depth is below that of the same lot without it."""
    full = staged(index=index)
    frame = paint(full)
    car = int(frame.cars[np.argmax(np.prod(frame.boxes[:, 2:] - frame.boxes[:, :2], 1))])

    def without(scene):
        return replace(scene, cars=[c for i, c in enumerate(scene.cars) if i != car])

    with_car, empty = (find_surfaces(s).depth for s in (full, staged(index=index, change=without)))
    changed = with_car != empty
    # at its edges a pixel may belong to the car whose middle looks past it, onto ground that is nearer
    nearer = empty[changed] - with_car[changed]
    assert changed.sum() > 100 and (nearer > 0).mean() > 0.97 and nearer.min() > -0.6
    rows, columns = np.nonzero(changed)
    box = frame.boxes[list(frame.cars).index(car)]
    assert columns.min() >= box[0] - 1 and columns.max() <= box[2] + 1
    assert rows.min() >= box[1] - 1 and rows.max() <= box[3] + 1


def test_values_of_depth_are_meters_within_the_noise():
    stage = staged()
    surfaces = find_surfaces(stage)
    value = np.asarray(measure_depth(stage, surfaces)).astype(float)
    near = (value > 0) & (surfaces.depth < 25)
    error = meters(value[near]) / surfaces.depth[near] - 1
    assert near.sum() > 5000 and abs(np.median(error)) < 0.005 and np.quantile(abs(error), 0.95) < 0.06
    assert (value[surfaces.depth > FARTHEST] == 0).all()
    assert 0 < (value[surfaces.depth < 25] == 0).mean() < 0.1  # holes at the edges


@pytest.mark.parametrize("index", [SUNNY, OVERCAST, RAINY])
def test_colors_have_no_part_in_it(index):
    def black(scene):
        return replace(scene, cars=[replace(car, paint=(20.0, 20.0, 20.0)) for car in scene.cars])

    before, after = staged(index=index), staged(index=index, change=black)
    assert np.asarray(paint(before).image).tolist() != np.asarray(paint(after).image).tolist()
    for one, two in zip(views(before), views(after), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("index", [SUNNY, OVERCAST, RAINY])
def test_parked_cars_are_told_from_the_ground_by_their_heat(index):
    stage = staged(index=index)
    ids = np.asarray(Image.fromarray(paint(stage).ids).resize(SIZE, Image.Resampling.NEAREST))
    heat, ground = views(stage)[0], find_surfaces(stage).ids == GROUND
    cars = [heat[ids == k + 1] for k in range(len(stage.scene.cars)) if (ids == k + 1).sum() > 60]
    below = heat[int(SIZE[1] * 0.3) :][ground[int(SIZE[1] * 0.3) :]]
    apart = [abs(np.median(car) - np.median(below)) for car in cars]
    assert len(apart) > 3 and min(apart) > 4  # gray values; the noise has a deviation of about 1


def test_a_hood_cools_with_the_time_that_a_car_has_stood():
    frames = []
    for idle in (0.0, 30.0, 300.0):

        def stood(scene, idle=idle):
            return replace(scene, cars=[replace(car, idle=idle) for car in scene.cars])

        frames.append(views(staged(index=OVERCAST, change=stood))[0])
    hot, warm, cold = (frame.sum() for frame in frames)
    assert hot > warm > cold and frames[0].max() - frames[2].max() > 50


def test_people_are_warm_in_any_weather():
    for index in (SUNNY, OVERCAST, RAINY):

        def alone(scene):
            person = replace(scene.cars[0], mesh=prop_mesh("person"), x=0.0, y=14.0, idle=np.inf)
            return replace(scene, cars=[], props=[person])

        empty = staged(index=index, change=lambda scene: replace(scene, cars=[], props=[]))
        more = views(staged(index=index, change=alone))[0] - views(empty)[0]
        assert more.max() > (20 if index != SUNNY else 0), index


def test_sun_warms_the_lot_and_shade_keeps_it_cool():
    sunny, rainy = staged(index=SUNNY), staged(index=RAINY)
    shade = np.asarray(sunny.shade) / 255
    ground = find_surfaces(sunny).ids == GROUND
    heat = views(sunny)[0]
    assert heat[ground & (shade < 0.1)].mean() > heat[ground & (shade > 0.9)].mean() + 10
    assert heat[ground].mean() > views(rainy)[0][find_surfaces(rainy).ids == GROUND].mean() + 10


def test_how_long_a_car_has_stood_agrees_with_who_is_parked():
    view = make_view(0, "C1", SIZE)
    for index in range(6):
        now, since = parked(0, view, index), since_change(0, view, index)
        before = parked(0, view, index - 1) if index else [-1] * len(now)
        for one, two, minutes in zip(before, now, since, strict=True):
            assert (one == two) == (minutes >= 100) and minutes >= 0


def test_a_view_is_a_function_of_seed_camera_and_frame():
    one, two, other = views(staged()), views(staged()), views(staged(index=SUNNY + 1))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert not any((a == b).all() for a, b in zip(one, other, strict=True))
    assert PAINT == 0  # faces of the body, which measure_heat leaves to the sun


def snapshot(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    plain, full = (tmp_path_factory.mktemp(name) for name in ("plain", "full"))
    given = {"frames": 3, "seed": 3, "size": (160, 120), "patches": True}
    write_world(plain, ["C1"], **given)
    write_world(full, ["C1"], **given, views=["thermal", "depth"])
    return plain, full, given


def test_colors_and_labels_stay_as_they_are_byte_for_byte(worlds):
    plain, full = map(snapshot, worlds[:2])
    assert {k: v for k, v in full.items() if "THERMAL" not in k and "DEPTH" not in k} == plain
    names = {k.replace("PATCHES/", "").replace(".jpg", "") for k in plain if k.startswith("PATCHES/")}
    for kind in ("THERMAL", "DEPTH"):
        found = {k for k in full if k.startswith(f"PATCHES_{kind}/")}
        assert {k.replace(f"PATCHES_{kind}/", "").replace(".png", "") for k in found} == names
        assert sum(k.startswith(f"{kind}_160x120/") for k in full) == 3


def test_views_are_added_to_a_world_without_drawing_its_colors_again(worlds, tmp_path, monkeypatch):
    _, full, given = worlds
    write_world(tmp_path, ["C1"], **given)
    monkeypatch.setattr(write_module, "paint", lambda *_: pytest.fail("colors were drawn again"))
    write_world(tmp_path, ["C1"], **given, views=["depth"])
    write_world(tmp_path, ["C1"], **given, views=["thermal", "depth"])
    assert snapshot(tmp_path) == snapshot(full)


def test_an_interrupted_drawing_goes_on(worlds, tmp_path, monkeypatch):
    _, full, given = worlds
    seen, draw = [], write_module.measure_heat

    def broken(stage, surfaces):
        seen.append(stage)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return draw(stage, surfaces)

    monkeypatch.setitem(write_module.VIEWS, "thermal", broken)
    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path, ["C1"], **given, views=["thermal", "depth"])
    monkeypatch.undo()
    write_world(tmp_path, ["C1"], **given, views=["thermal", "depth"])
    assert snapshot(tmp_path) == snapshot(full)


def test_a_patch_is_cut_where_that_of_the_colors_is(worlds):
    """The thermal patch, scaled, is the crop of the thermal frame at the slot's box."""
    _, full, given = worlds
    view = make_view(3, "C1", given["size"])
    frame = Image.open(sorted(full.glob("THERMAL_160x120/*/*/camera1/*.png"))[0])
    for slot, box in list(zip(view.slot_ids, view.boxes * np.array([160, 120, 160, 120]), strict=True))[:4]:
        path = sorted(full.glob(f"PATCHES_THERMAL/*/*/camera1/*_{slot}.png"))[0]
        cut = np.asarray(frame.crop([round(side) for side in box]).resize((150, 150))).astype(float)
        assert abs(cut.mean() - np.asarray(Image.open(path)).mean()) < 4


def test_the_module_serves_them(tmp_path):
    data = ParkingWorld(
        str(tmp_path), ["C1"], 18, size=(160, 120), task="patches", split="by_day", patch_size=24,
        modalities=["rgb", "thermal", "depth", "context"],
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    x, _ = next(iter(data.train_dataloader()))
    assert {m: tuple(v.shape[1:]) for m, v in x.items()} == {
        "rgb": (3, 24, 24), "thermal": (1, 24, 24), "depth": (1, 24, 24), "context": (16,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("index", "means"),
    [
        (SUNNY, [[106.42, 105.21, 84.57, 99.56], [108.26, 136.19, 125.03, 120.63], [139.61, 142.61, 105.05, 117.97]]),
        (OVERCAST, [[100.22, 99.51, 111.62, 108.49], [100.57, 110.71, 118.56, 102.76], [114.5, 108.3, 128.04, 87.41]]),
        (RAINY, [[89.65, 98.71, 97.14, 79.35], [94.03, 93.44, 90.19, 84.06], [82.04, 83.86, 81.36, 76.83]]),
    ],
)  # fmt: skip
def test_colors_are_those_of_the_time_before_there_were_views(index, means):
    """Means of green over blocks of 60x60 pixels, noted then; worlds on people's disks go on from there."""
    image = np.asarray(render(0, make_scene(0, make_view(0, "C1", SIZE), index)).image).astype(float)
    np.testing.assert_allclose(image[..., 1].reshape(3, 60, 4, 60).mean((1, 3)), means, atol=0.02)


def test_frames_that_share_a_lot_leave_it_as_it_is():
    """The surfaces of the empty lot are kept between frames: cars of one must not show in the next."""

    def bare():
        return find_surfaces(staged(change=lambda scene: replace(scene, cars=[], props=[])))

    surfaces_module._empty.cache_clear()
    alone = bare()
    ids, depth = alone.ids.copy(), alone.depth.copy()
    full = find_surfaces(staged())
    assert (full.depth != depth).sum() > 1000
    after = bare()
    np.testing.assert_array_equal(after.ids, ids)
    np.testing.assert_array_equal(after.depth, depth)


def test_an_unknown_view(tmp_path):
    with pytest.raises(ValueError, match="views: 'sonar' is none of thermal, depth"):
        write_world(tmp_path, ["C1"], 1, 0, views=["sonar"])
