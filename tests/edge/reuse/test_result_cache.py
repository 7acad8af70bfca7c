"""When an earlier answer is given again."""

import numpy as np
import pytest

from lkd.edge.reuse import ResultCache, answered_by


def picture(box=None, gray=90, size=(90, 160), seed=0):
    """A textured scene with sensor noise, and a bright car at a box."""
    rng = np.random.default_rng(7)
    image = np.full((*size, 3), float(gray)) + np.repeat(rng.normal(0, 20, (*size, 1)), 3, 2)
    if box is not None:
        left, top, right, bottom = box
        image[top:bottom, left:right] = 210
    return (image + np.random.default_rng(seed).normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)


def hits(cache, pictures, key="gate"):
    """Whether each picture, a second apart, is a hit."""
    given = answered_by(cache, [(key, second, image) for second, image in enumerate(pictures)])
    return [source != number for number, source in enumerate(given)]


def test_identical_frames_are_one_run():
    assert hits(ResultCache(distance=0.0), [picture()] * 5) == [False, True, True, True, True]


def test_sensor_noise_is_no_change_at_the_default():
    assert hits(ResultCache(), [picture(seed=seed) for seed in range(5)]) == [False, True, True, True, True]


def test_a_moving_box_in_one_corner_is_a_miss_at_the_default():
    boxes = [(2 + 6 * step, 80, 12 + 6 * step, 86) for step in range(4)]  # 10 x 6 of 160 x 90 pixels
    pictures = [picture(box, seed=seed) for seed, box in enumerate(boxes)]
    assert hits(ResultCache(), pictures) == [False] * 4
    assert any(hits(ResultCache(reduce=np.mean), pictures))  # which the mean of all cells does not see


def test_a_cloud_is_no_change_but_other_light_is():
    assert hits(ResultCache(), [picture(gray=gray) for gray in (90, 100, 104)]) == [False, True, True]
    assert hits(ResultCache(), [picture(gray=gray) for gray in (90, 110)]) == [False, False]


def test_a_car_that_fills_a_slots_whole_picture_is_a_change():
    empty, car = np.full((40, 30, 3), 90, np.uint8), np.full((40, 30, 3), 120, np.uint8)
    assert hits(ResultCache(cells=8), [empty, car, car, empty]) == [False, False, True, False]


def test_a_colored_car_of_the_asphalts_brightness_is_a_change():
    asphalt, car = picture(), picture()
    car[40:60, 40:80] = (200, 45, 45)  # 91 in gray, as the asphalt
    assert hits(ResultCache(), [asphalt, car, car]) == [False, False, True]


def test_other_white_balance_is_a_change():
    warm = picture() + np.array([0, 0, 20])
    assert hits(ResultCache(), [picture(), warm.clip(0, 255).astype(np.uint8)]) == [False, False]


def test_a_slow_drift_is_a_miss_in_the_end():
    pictures = [picture() for _ in range(12)]
    for step, image in enumerate(pictures):
        image[:45] = np.minimum(image[:45].astype(int) + 3 * step, 255)
        image[:30] = np.minimum(image[:30].astype(int) + 3 * step, 255)
    given = hits(ResultCache(), pictures)
    assert given[1:4] == [True] * 3 and not all(given[1:])  # each step alone is far below the limit


def test_an_answer_is_given_until_its_time_is_over_and_no_longer():
    cache = ResultCache[str](ttl_s=10.0)
    image = picture()
    cache.keep(cache.look("gate", 100.0, image), "first")
    ages = {time: cache.look("gate", time, image) for time in (100.0, 110.0, 110.1, 99.0)}
    assert [look.hit is not None for look in ages.values()] == [True, True, False, False]
    assert ages[110.0].age == 10.0 and ages[110.1].distance == 0.0


def test_a_hit_does_not_renew_the_answer():
    cache, image = ResultCache[int](ttl_s=2.0), picture()
    assert answered_by(cache, [("gate", second, image) for second in range(7)]) == [0, 0, 0, 3, 3, 3, 6]


def test_two_cameras_and_two_tiles_do_not_mix():
    cache, image = ResultCache[int](), picture()
    keys = ["gate", "yard", ("gate", (0, 1)), "gate", "yard", ("gate", (0, 1))]
    assert answered_by(cache, [(key, 0.0, image) for key in keys]) == [0, 1, 2, 0, 1, 2]


def test_another_resolution_is_a_miss_and_is_kept_from_then_on():
    small, large = picture(), picture(size=(180, 320))
    assert hits(ResultCache(), [small, large, large, small]) == [False, False, True, False]
    look = ResultCache[int]().look("gate", 0.0, small)
    assert look.distance is None and look.age is None


def test_only_watched_regions_count():
    pictures = [picture(seed=0), picture((2, 80, 40, 88), seed=1), picture((130, 2, 150, 20), seed=2)]
    right = [[0.75, 0.0, 1.0, 0.5]]
    assert hits(ResultCache(regions=right), pictures) == [False, True, False]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"distance": -1}, r"distance=-1 must be in \[0, 255\): it is in levels of 255"),
        ({"distance": float("nan")}, "distance=nan must be"),
        ({"distance": 255}, r"must be in \[0, 255\)"),
        ({"ttl_s": 0}, "ttl_s=0 must be above 0 and finite: it is in seconds"),
        ({"ttl_s": float("inf")}, "ttl_s=inf must be"),
        ({"cells": 4}, r"cells=4 must be in \[8, 1024\]"),
        ({"regions": [[1.2, 0, 1.4, 1]]}, "at least one lies inside"),
        ({"regions": np.zeros((0, 4))}, "at least one lies inside"),
    ],
)
def test_bad_values_are_one_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        ResultCache(**given)


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 16)), np.zeros((9, 16, 4), np.uint8), np.zeros((3, 9, 16), np.uint8), np.zeros((0, 16, 3), np.uint8), np.zeros(9, np.uint8)],
)  # fmt: skip
def test_a_picture_that_is_not_in_bytes_is_refused(image):
    """Of floats in [0, 1] nothing ever changes by more than a gray level."""
    with pytest.raises(ValueError, match=r"image of 'gate' is .*, and must be uint8 \(H, W, 3\) RGB or"):
        ResultCache().look("gate", 0.0, image)


def test_a_picture_without_a_time_is_refused():
    with pytest.raises(ValueError, match="time=nan of a picture of 'gate' must be a number of seconds"):
        ResultCache().look("gate", float("nan"), picture())
