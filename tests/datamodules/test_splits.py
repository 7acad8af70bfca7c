from collections import namedtuple
from itertools import pairwise

import pytest

from lkd.datamodules.samples.splits import by_time, pick
from lkd.natural_order import natural_key, padded

Shot = namedtuple("Shot", "camera time name", defaults=[""])


def test_each_camera_is_split_in_time_without_overlap():
    shots = [Shot("C1", str(t)) for t in range(100, 0, -1)] + [
        Shot("C10", f"2015-11-{d:02d}") for d in range(1, 11)
    ]
    parts = by_time(shots, (0.5, 0.2, 0.3))
    assert [len(part) for part in parts] == [55, 22, 33]
    assert sorted(shot for part in parts for shot in part) == sorted(shots)
    for camera in ("C1", "C10"):
        times = [[natural_key(shot.time) for shot in part if shot.camera == camera] for part in parts]
        assert all(max(early) < min(late) for early, late in pairwise(times))
        assert all(part == sorted(part) for part in times)


def test_patches_of_one_frame_stay_together():
    shots = [Shot("C1", f"{t:02d}", slot) for t in range(10) for slot in "abc"]
    parts = by_time(shots, (0.6, 0.2, 0.2))
    assert [len(part) for part in parts] == [18, 6, 6]
    times = [{shot.time for shot in part} for part in parts]
    assert not times[0] & times[1] and not times[1] & times[2]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.2, -0.2, 0.0), (0.3, 0.3, 0.3)])
def test_bad_fractions(fractions):
    with pytest.raises(ValueError, match="fractions="):
        by_time([Shot("C1", "1")], fractions)


def test_unknown_names_suggest_near_ones():
    assert pick("cameras", None, ["C10", "C9"]) == ["C9", "C10"]
    with pytest.raises(ValueError, match=r"cam1_sliproads.*did you mean cam1_sliproad"):
        pick("cameras", ["cam1_sliproads"], ["cam1_sliproad", "cam2_night"])
    with pytest.raises(ValueError, match="no similar name"):
        pick("cameras", ["xyz"], ["C1"])
    with pytest.raises(ValueError, match="selects nothing"):
        pick("cameras", [], ["C1"])


def test_decimal_times_and_other_digits():
    shots = [Shot("C1", time) for time in ("1.75", "1.5", "2", "1.25", "1²0", "10", "9.10.1", "9.9.30")]
    times = [shot.time for shot in by_time(shots, (1.0, 0.0, 0.0)).train]
    assert times == ["1²0", "1.25", "1.5", "1.75", "2", "9.9.30", "9.10.1", "10"]
    assert sorted({"1", "01", "001"}, key=natural_key) == ["001", "01", "1"]
    assert sorted(map(padded, times[1:])) == [padded(time) for time in times[1:]]
