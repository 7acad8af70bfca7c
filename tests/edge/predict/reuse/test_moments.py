"""Camera and time out of the names of pictures."""

from pathlib import Path

import numpy as np
import pytest

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.reuse.moments import FrameMoments, moment, seconds
from lkd.edge.predict.sources import PictureSource


@pytest.mark.parametrize(
    ("name", "camera", "clock"),
    [
        ("SUNNY/2015-11-12/camera7/2015-11-12_0709.jpg", "SUNNY/2015-11-12/camera7", (7, 9, 0)),
        ("pklot/2013-03-19_07_05_01.jpg", "pklot", (7, 5, 1)),
        ("S_2015-11-12_07.09_C01_184.jpg", "S_-_C01_184", (7, 9, 0)),  # a slot is a scene of its own
        ("gate 20240131T235959.png", "gate", (23, 59, 59)),
    ],
)
def test_a_date_with_a_time(name, camera, clock):
    found, seconds = moment(Path(name))
    h, m, s = clock
    assert found == camera and seconds % 86400 == 3600 * h + 60 * m + s


@pytest.mark.parametrize(
    ("name", "second"),
    [("2015-11-12_07-09-01.500.jpg", 1.5), ("20151112070901,250000.jpg", 1.25), ("2015-11-12_07-09-01.5.jpg", 1.0)],
)  # fmt: skip
def test_thousandths_are_time_and_no_camera(name, second):
    camera, seconds = moment(Path("gate") / name)
    assert seconds % 60 == second and camera == ("gate/5" if second == 1 else "gate")


def test_a_slot_behind_a_dot_is_no_fraction_of_a_minute():
    assert moment(Path("2015-11-12_07.09.184.jpg")) == ("184", moment(Path("2015-11-12_0709.jpg"))[1])


def test_a_counter_behind_the_date_gives_each_picture_a_camera_of_its_own():
    names = [f"2015-11-12_07-09-0{second}_000{second}.jpg" for second in range(3)]
    with pytest.raises(
        ValueError, match=r"each of the 3 pictures is .* of a camera of its own, as .*_0000\.jpg"
    ):
        FrameMoments(PictureSource([Path(name) for name in names]))
    FrameMoments(PictureSource([Path(names[0])]))  # of one it says nothing


@pytest.mark.parametrize("other", ["in/gate_7.png", "in/gate_07.jpg", "in/gate-7.jpg"])
def test_two_pictures_of_a_camera_at_the_same_time_are_refused(other):
    paths = [Path("in/gate_7.jpg"), Path(other)]
    with pytest.raises(ValueError, match="by their names of the same camera, in/gate, and time"):
        FrameMoments(PictureSource(paths), step_s=1.0)
    FrameMoments(PictureSource([paths[0], paths[0]]), step_s=1.0)  # named twice


def test_a_number_counts_steps():
    assert moment(Path("images/cam1_9.jpg"), 0.5) == ("images/cam1", 4.5)
    assert moment(Path("images/cam1_10.jpg"), 0.5) == ("images/cam1", 5.0)
    assert moment(Path("cam1/000012.jpg"), 2) == ("cam1", 24.0)
    assert moment(Path("9_left.jpg"), 1)[0] != moment(Path("9_right.jpg"), 1)[0]


@pytest.mark.parametrize("digits", [4, 6])
@pytest.mark.parametrize("numbers", [range(3), range(1, 4), (50, 55, 61)])
def test_a_counter_behind_a_date_is_not_taken_for_a_time_of_day(digits, numbers):
    paths = [Path(f"gate/2024-01-15_{number:0{digits}}.jpg") for number in numbers]
    with pytest.raises(
        ValueError, match=r"may be a counter or a time of day, .* as --reuse '\{step_s: 60\}'"
    ):
        FrameMoments(PictureSource(list(paths)))
    moments = FrameMoments(PictureSource(paths), step_s=2.0)
    image = np.zeros((1, 1, 3), np.uint8)
    found = [moments(Frame(str(path), 0, None, image)) for path in paths]
    assert found == [("gate/2024-01-15", 2.0 * number) for number in numbers]


@pytest.mark.parametrize("times", [["0709", "0710", "0711"], ["0000", "0005", "0010"], ["0000"]])
def test_times_that_are_no_counter_are_times(times):
    paths = [Path(f"gate/2024-01-15_{time}.jpg") for time in times]
    moments = FrameMoments(PictureSource(paths))
    image = np.zeros((1, 1, 3), np.uint8)
    ages = [moments(Frame(str(path), 0, None, image))[1] % 86400 for path in paths]
    assert ages == [60.0 * (60 * int(time[:2]) + int(time[2:])) for time in times]


def test_a_number_may_be_decimal():
    found = [moment(Path(f"gate_{number}.jpg"), step_s=1) for number in ("1.5", "1.25", "2", "2020.1.7")]
    assert found == [("gate", 1.5), ("gate", 1.25), ("gate", 2.0), ("gate_2020.1", 7.0)]
    assert seconds("000000000001.25", 2.0) == 2.5 and seconds("1.2.5", 2.0) is None


def test_a_number_that_is_no_date_is_a_number():
    assert moment(Path("cam_20151312112233.jpg"), 1)[1] == 20151312112233  # the thirteenth month


def test_pictures_are_put_in_order_of_camera_and_time():
    source = PictureSource([Path(f"in/{name}.png") for name in ("b_2", "a_10", "a_9", "b_1")])
    moments = FrameMoments(source, step_s=1.0)
    assert [path.stem for path in source.paths] == ["a_9", "a_10", "b_1", "b_2"]
    assert moments.reordered and not FrameMoments(source, step_s=1.0).reordered
    assert moments(Frame("in/a_10.png", 1, None, np.zeros((1, 1, 3), np.uint8))) == ("in/a", 10.0)


@pytest.mark.parametrize(
    ("name", "step", "sentence"),
    [
        ("holiday.jpg", None, "holiday.jpg has neither a date with a time in its name, .* nor a number"),
        ("holiday.jpg", 1.0, "cannot be reused; leave --reuse out"),
        ("cam1_7.jpg", None, r"say how many lie between two numbers, as --reuse '\{step_s: 0.5\}'"),
        ("2015-11-12_0709.jpg", 1.0, "step_s=1 is of numbered pictures, and names such as 2015-11-12_0709.jpg say"),
    ],
)  # fmt: skip
def test_pictures_without_a_time_are_refused(name, step, sentence):
    with pytest.raises(ValueError, match=sentence):
        FrameMoments(PictureSource([Path(name)]), step)


class Clip:
    """A source that is no pictures."""


def test_a_clip_has_its_own_times():
    moments = FrameMoments(Clip())
    assert moments(Frame("a.mp4", 3, 0.12, np.zeros((1, 1, 3), np.uint8))) == ("a.mp4", 0.12)
    with pytest.raises(ValueError, match=r"frame 3 of a\.mp4 has no time"):
        moments(Frame("a.mp4", 3, None, np.zeros((1, 1, 3), np.uint8)))
    with pytest.raises(ValueError, match="step_s=1 is of numbered pictures, and frames of a clip"):
        FrameMoments(Clip(), step_s=1.0)
