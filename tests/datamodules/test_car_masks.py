import numpy as np
import pytest
import torch
from PIL import Image

from lkd.datamodules import PKLot
from lkd.datamodules.detection.formats.car_masks import COVER, cut_cars, read_mask
from lkd.datamodules.detection.pklot import read_slots


def row(count, busy=True):
    """Slots of 20x20 pixels side by side, beginning at the left."""
    corners = ((0, 0), (19, 0), (19, 19), (0, 19))
    return [([(20 * k + x, 20 + y) for x, y in corners], busy) for k in range(count)]


def boxes(mask, slots):
    height, width = mask.shape
    found = cut_cars(mask, slots)
    scaled = (found.boxes * torch.tensor([width, height, width, height])).round().int().tolist()
    return sorted(scaled), found


def test_cars_that_touch_are_cut_between_their_slots():
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[25:35, 2:58] = 1  # three cars in a row, one part
    found, cars = boxes(mask, row(3))
    assert found == [[2, 25, 20, 35], [20, 25, 40, 35], [40, 25, 58, 35]]
    assert (cars.cut, cars.joined, cars.uncut) == (1, 0, 0)


def test_a_car_behind_a_post_is_one():
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[22:38, 2:9] = mask[22:38, 11:18] = 1
    found, cars = boxes(mask, row(2))
    assert found == [[2, 22, 18, 38]] and (cars.cut, cars.joined) == (0, 1)


def test_the_ends_of_two_cars_beyond_a_post_are_cut_and_joined():
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[22:38, 2:14] = mask[22:38, 26:38] = 1
    mask[22:38, 17:23] = (
        1  # the end of the one touches that of the other, and neither covers much of its slot
    )
    found, cars = boxes(mask, row(2))
    assert found == [[2, 22, 20, 38], [20, 22, 38, 38]] and (cars.cut, cars.joined) == (1, 2)


def test_cars_beside_slots_and_elsewhere_have_boxes_of_their_own():
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[25:35, 2:18] = 1
    mask[2:10, 80:95] = 1  # parked beside the slots
    mask[50:58, 20:40] = 2
    mask[50:58, 40:50] = 1  # touches a car elsewhere, but is parked
    found, cars = boxes(mask, row(2))
    assert found == [[2, 25, 18, 35], [20, 50, 40, 58], [40, 50, 50, 58], [80, 2, 95, 10]]
    assert (cars.cut, cars.joined, cars.uncut) == (0, 0, 0)


def test_free_slots_do_not_cut_a_car_that_sticks_out_of_its_own():
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[22:36, 2:30] = 1
    slots = [row(1)[0], row(2, busy=False)[1]]
    assert boxes(mask, slots)[0] == [[2, 22, 30, 36]]
    edge = np.zeros_like(mask)
    edge[20:40, 2 : 20 + int(20 * COVER) - 1] = (
        1  # less of the neighbor's slot than a car of its own would cover
    )
    assert len(boxes(edge, row(2))[0]) == 1


def test_what_is_too_large_for_one_car_is_counted():
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[22:38, 42:98] = 1  # over the places of three cars, none of them a busy slot
    assert boxes(mask, row(2))[1].uncut == 1
    assert boxes(np.where(mask == 1, 2, 0).astype(np.uint8), row(2))[1].uncut == 1
    assert boxes(mask, row(5))[1].uncut == 0  # here they can be cut


def test_an_empty_mask_has_no_cars():
    found, cars = boxes(np.zeros((60, 100), dtype=np.uint8), row(3))
    assert found == [] and cars.boxes.shape == (0, 4)


def test_a_mask_for_the_eye_is_refused(tmp_path):
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png holds the value 255, not 0, 1 and 2 alone"):
        read_mask(tmp_path / "mask.png")


def overlap(a, b):
    """Intersection over union of two boxes xyxy."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, w) * max(0, h)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_cut_cars_of_the_sample_are_where_they_stand_alone_in_other_frames(sample):
    """The same parked cars, boxes read off frames in which nothing touches them."""
    root = sample("pklot")
    truth = {
        "sequence1/masks/2013-02-22_07_10_01": [(279, 50, 358, 94), (433, 131, 518, 176)],
        "sequence1/masks/2013-02-22_07_15_01": [
            (279, 50, 358, 94),
            (368, 64, 452, 106),
            (433, 131, 518, 176),
        ],
        "sequence3/masks/2013-03-19_07_10_01": [(707, 476, 862, 566)],
        "sequence3/masks/2013-03-19_07_25_01": [
            (707, 476, 862, 566),
            (1059, 229, 1169, 285),
            (541, 444, 674, 532),
        ],
    }
    for name, expected in truth.items():
        xml = root / f"{name.replace('masks', 'bounding_boxes')}.xml"
        cars = cut_cars(read_mask(root / f"{name}.png"), read_slots(xml))
        found = (cars.boxes * torch.tensor([1280, 720, 1280, 720])).tolist()
        for box in expected:
            assert max(overlap(box, one) for one in found) > 0.75, (name, box)


def test_every_busy_slot_of_the_sample_has_one_car(sample):
    """99 busy slots, 11 cars parked beside them, and 1 elsewhere."""
    root, cars = sample("pklot"), []
    for path in sorted(root.glob("*/masks/*.png")):
        slots = read_slots(path.parents[1] / "bounding_boxes" / f"{path.stem}.xml")
        cars.append(cut_cars(read_mask(path), slots))
        assert len(cars[-1].boxes) >= sum(busy for _, busy in slots)
    assert sum(len(one.boxes) for one in cars) == 99 + 11 + 1
    assert [sum(counts) for counts in zip(*(one[1:] for one in cars), strict=True)] == [9, 7, 0]
    assert len(PKLot(str(root)).annotate(PKLot(str(root)).frames())) == 15
