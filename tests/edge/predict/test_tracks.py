import numpy as np
import pytest

from lkd.edge.predict.tracks import Tracker

pytest.importorskip("trackers")


def seen(*boxes, score=0.9):
    """Boxes of 20 pixels whose left upper corners are given."""
    corners = np.array(boxes, float).reshape(-1, 2)
    return {
        "boxes": np.concatenate([corners, corners + 20], 1),
        "scores": np.full(len(corners), score),
        "labels": np.zeros(len(corners), np.int64),
    }


@pytest.mark.parametrize("method", ["bytetrack", "sort"])
def test_ids_stay_with_what_moves_whatever_the_order_of_the_boxes(method):
    tracker, ids = Tracker(method, rate=10), []
    for number in range(12):
        places = [(10 + 3 * number, 50), (200 - 3 * number, 100)]
        turned = number % 2  # a detector's order says nothing
        found = tracker.update(seen(*places[:: -1 if turned else 1]), number / 10)
        ids.append(found["ids"].tolist()[:: -1 if turned else 1])
    assert ids[-1] == ids[4] and len(set(ids[-1])) == 2 and -1 not in ids[-1]
    assert found["ids"].dtype == np.int64 and found["boxes"].shape == (2, 4)


def test_a_track_outlives_a_gap_shorter_than_lost_and_no_longer_one():
    for gap, same in ((0.5, True), (3.0, False)):
        tracker = Tracker(rate=10, lost=1.0)
        for number in range(6):
            before = tracker.update(seen((50, 50)), number / 10)["ids"]
        for number in range(4):
            assert tracker.update(seen(), 0.5 + gap * (number + 1) / 6)["ids"].tolist() == []
        for number in range(3):
            after = tracker.update(seen((50, 50)), 0.5 + gap + number / 10)["ids"]
        assert (before.tolist() == after.tolist()) == same and after[0] >= 0


def test_weak_boxes_begin_no_track_but_go_on_with_one():
    tracker = Tracker(rate=10, start=0.5)
    assert all(tracker.update(seen((50, 50), score=0.3), n / 10)["ids"].tolist() == [-1] for n in range(5))
    for number in range(5, 9):
        tracker.update(seen((50, 50)), number / 10)
    assert tracker.update(seen((50, 50), score=0.3), 0.9)["ids"].tolist() == [0]


def test_two_frames_of_one_timestamp_are_two_frames():
    tracker = Tracker(rate=10)
    ids = [tracker.update(seen((50, 50)), time)["ids"].tolist() for time in (0.0, 0.1, 0.1, 0.1, 0.2)]
    assert ids == [[-1], [0], [0], [0], [0]]


def test_another_clip_begins_with_new_tracks():
    tracker = Tracker(rate=10, steady=1)
    for number in range(4):
        tracker.update(seen((50, 50), (90, 90)), number / 10)
    ids = [tracker.update(seen((50, 50)), number / 10)["ids"].tolist() for number in range(4)]
    assert ids[-1] == [0]


def test_numbers_that_are_none_are_refused():
    for wrong in ({"method": "deep"}, {"rate": 0}, {"steady": 0}, {"start": 2}, {"overlap": 0}, {"lost": -1}):
        (name,) = wrong
        with pytest.raises(ValueError, match=name):
            Tracker(**wrong)
