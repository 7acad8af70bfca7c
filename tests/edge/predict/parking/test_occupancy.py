import numpy as np
import pytest

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.parking.fill import fill
from lkd.edge.predict.parking.occupancy import Change, Occupancy
from lkd.edge.predict.parking.overlap import area, crosses_itself, rectangle, stacked, within
from lkd.edge.predict.parking.slots import Slots
from lkd.edge.predict.parking.vehicles import vehicles

PICTURE = np.zeros((40, 100, 3), np.uint8)


def lot(count=3):
    """Slots of 20 x 20 pixels beside each other."""
    polygons = np.stack([rectangle([10 + 20 * n, 10, 30 + 20 * n, 30]) for n in range(count)])
    return Slots(tuple(f"A{n}" for n in range(count)), polygons, (100, 40), "gate", "map.json")


def frame(number=0, time=None, source="clip.mp4"):
    return Frame(source, number, time, PICTURE)


def cars(*shares, labels=None):
    """A box that covers each share of each slot of the lot, from its left."""
    boxes = [[10 + 20 * n, 10, 10 + 20 * n + 20 * share, 30] for n, share in enumerate(shares) if share]
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "scores": np.ones(len(boxes)),
        "labels": np.array([0] * len(boxes) if labels is None else labels, np.int64),
    }


def test_the_area_of_a_polygon_in_a_box_is_what_counting_points_says():
    draw = np.random.default_rng(0)
    polygons = []
    for corners in draw.integers(3, 9, 20):
        angles = np.sort((np.arange(corners) + draw.random(corners)) / corners * 2 * np.pi)
        reach = 5 + 30 * draw.random(corners)  # a star, mostly with dents
        polygons.append(
            np.stack([40 + reach * np.cos(angles), 40 + reach * np.sin(angles)], 1)[:: draw.choice([1, -1])]
        )
    low = draw.random((15, 2)) * 60
    boxes = np.concatenate([low, low + 2 + 50 * draw.random((15, 2))], 1).round()
    x, y = np.meshgrid(np.arange(0.125, 80, 0.25), np.arange(0.125, 80, 0.25))
    for slot, polygon in enumerate(polygons):
        ends = np.roll(polygon, -1, 0)
        crossed = [
            ((a[1] > y) != (b[1] > y)) & (x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            for a, b in zip(polygon, ends, strict=True)
        ]
        inside = np.sum(crossed, 0) % 2 == 1
        found = within(stacked(polygons), boxes)[:, slot]
        for box, covered in zip(boxes, found, strict=True):
            points = inside & (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
            assert covered == pytest.approx(points.sum() / 16, abs=4)
    everything = within(stacked(polygons), np.array([[-1e3, -1e3, 1e3, 1e3]]))[0]
    assert everything == pytest.approx(area(stacked(polygons))) and not any(map(crosses_itself, polygons))


def test_one_box_fills_one_slot_the_one_that_it_covers_most():
    both = np.array([[12.0, 0, 48, 30]])  # .9 of two slots each
    assert sorted(fill(lot(), both).tolist()) == pytest.approx([0, 0, 0.9])
    one_each = np.array([[10.0, 10, 48, 30], [28, 10, 50, 30]])  # the first covers all of A0 and .9 of A1
    assert fill(lot(), one_each).tolist() == pytest.approx([1, 1, 0])
    assert fill(lot(), np.zeros((0, 4))).tolist() == [0, 0, 0]


def test_of_a_slot_at_the_edge_the_part_in_the_picture_counts():
    slots = Slots(("A0",), rectangle([90, 10, 108, 30])[None], (100, 40), None, "map.json")
    assert fill(slots, np.array([[90.0, 10, 100, 30]])).tolist() == pytest.approx([1])


def test_between_down_and_up_a_slot_stays_what_it_is():
    occupancy = Occupancy(lot(2), up=0.5, down=0.3, dwell=0)
    occupancy.update(frame(0), cars(1, 0))
    assert occupancy.busy.tolist() == [True, False] and occupancy.free == 1
    assert occupancy.update(frame(1), cars(0.4, 0.4)) == []
    assert occupancy.update(frame(2), cars(0.2, 0.6)) == [
        Change(2, None, "A0", False),
        Change(2, None, "A1", True),
    ]
    assert occupancy.busy.tolist() == [False, True] and occupancy.shares.tolist() == pytest.approx([0.2, 0.6])


def test_a_change_has_to_last_for_the_dwell():
    occupancy = Occupancy(lot(1), dwell=1.0)
    shares = [0, 1, 1, 0, 1, 1, 1, 1, 1, 1]  # every .25 s; the first try is too short
    changes = [occupancy.update(frame(n, n / 4), cars(share)) for n, share in enumerate(shares)]
    assert changes == [[]] * 8 + [[Change(8, 2.0, "A0", True)], []]


def test_pictures_further_apart_than_the_dwell_decide_at_once():
    occupancy = Occupancy(lot(1), dwell=2.0)
    for number, share in enumerate([0, 1, 0, 1]):
        found = occupancy.update(frame(number, 1800.0 * number, f"{number}.jpg"), cars(share))
        assert len(found) == (number > 0) and occupancy.busy.tolist() == [bool(share)]


def test_without_times_frames_are_counted():
    occupancy = Occupancy(lot(1), dwell=5.0, frames=3)
    changes = [occupancy.update(frame(n), cars(share)) for n, share in enumerate([0, 1, 1, 0, 1, 1, 1, 1])]
    assert [len(change) for change in changes] == [0, 0, 0, 0, 0, 0, 1, 0]


def test_after_a_gap_in_a_stream_the_first_frame_decides_and_another_clip_begins_anew():
    occupancy = Occupancy(lot(1), dwell=2.0)
    occupancy.update(frame(0, 0.0), cars(0))
    occupancy.update(frame(1, 0.5), cars(1))
    assert len(occupancy.update(frame(2, 60.0), cars(1))) == 1
    occupancy.update(frame(3, 61.0), cars(0))
    assert occupancy.update(frame(0, 0.0, "next.mp4"), cars(0)) == []  # time went back: the count, too
    assert occupancy.update(frame(1, 1.5, "next.mp4"), cars(0)) == [] and occupancy.busy.all()


def test_only_boxes_of_vehicles_fill_a_slot():
    names = ["person", "car", "bench"]
    occupancy = Occupancy(lot(2), names)
    occupancy.update(frame(), cars(1, 1, labels=[0, 1]))
    assert occupancy.busy.tolist() == [False, True]
    chosen = Occupancy(lot(2), names, classes=["person"])
    chosen.update(frame(), cars(1, 1, labels=[0, 1]))
    assert chosen.busy.tolist() == [True, False]
    assert vehicles(["Cars", "BUS", "tram"], None) == [0, 1] and vehicles(None, None) is None
    with pytest.raises(ValueError, match=r"classes are cat, dog, and none is known as a vehicle"):
        vehicles(["cat", "dog"], None)
    with pytest.raises(ValueError, match=r"unknown: cra"):
        vehicles(names, ["cra"])
    with pytest.raises(ValueError, match="nobody says what the detector's classes are called"):
        vehicles(None, ["car"])


def test_what_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match=r"up=0\.2 and down=0\.5"):
        Occupancy(lot(), up=0.2, down=0.5)
    with pytest.raises(ValueError, match="dwell=-1"):
        Occupancy(lot(), dwell=-1)
    with pytest.raises(
        ValueError, match=r"a picture of 100x40, and the slots of map\.json are scaled to 200x80"
    ):
        Occupancy(lot().scaled((200, 80))).update(frame(), cars(1))


def test_a_vehicle_that_two_classes_claim_fills_one_slot():
    found = cars(1, 0, labels=[0])
    twice = np.array([[10.0, 10, 38, 30], [10, 10, 39, 30]])  # of A1 .4 and more, too
    found |= {"boxes": twice, "scores": np.array([0.9, 0.5]), "labels": np.array([0, 1])}
    occupancy = Occupancy(lot(2), ["car", "truck"])
    occupancy.update(frame(), found)
    assert occupancy.busy.tolist() == [True, False]


def test_unsure_boxes_are_warned_of_once():
    occupancy = Occupancy(lot(1))
    with pytest.warns(UserWarning, match=r"a box of a score of 0\.001 fills a slot") as warned:
        for number in range(3):
            occupancy.update(frame(number), {**cars(1), "scores": np.array([0.001])})
    assert len(warned) == 1
