import re

import numpy as np
import pytest

from lkd.edge.predict.clips import clip_writer
from lkd.edge.predict.clips.clip_writer import ClipWriter
from lkd.edge.predict.clips.video import VideoSource

from .made import gray, needs_av, which

pytestmark = needs_av


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_what_is_written_can_be_read_with_its_times(codec, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_writer, "_CODECS", {codec: clip_writer._CODECS[codec]})
    times = [100.0, 100.04, 100.08, 101.0, 101.04]
    with ClipWriter(tmp_path / "a.mp4", (64, 48), 25) as clip:
        for number, time in enumerate(times):
            clip.write(gray(number), time)
    frames = list(VideoSource(tmp_path / "a.mp4"))
    assert [which(frame) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in frames] == pytest.approx([time - 100 for time in times])


def test_frames_without_a_time_follow_each_other_at_the_rate(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", (64, 48), 30000 / 1001) as clip:
        for number in range(9):
            clip.write(gray(number))
    assert [frame.time for frame in VideoSource(tmp_path / "a.mp4")] == pytest.approx(
        [n * 1001 / 30000 for n in range(9)]
    )


def test_an_odd_size_is_made_even(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", (63, 47)) as clip:
        clip.write(gray(3, (63, 47)))
    source = VideoSource(tmp_path / "a.mp4")
    assert source.size == (64, 48) and which(next(iter(source))) == 3


def test_after_ctrl_c_the_clip_is_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), ClipWriter(tmp_path / "a.mp4", (64, 48)) as clip:
        for number in range(7):
            clip.write(gray(number))
        raise KeyboardInterrupt
    assert len(list(VideoSource(tmp_path / "a.mp4"))) == 7


def test_what_a_killed_program_left_can_be_read(tmp_path):
    clip = ClipWriter(tmp_path / "a.mp4", (64, 48), 10)
    for number in range(120):
        clip.write(gray(number % 20))
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())  # what lies on the disk now
    clip.close()
    assert len(list(VideoSource(tmp_path / "b.mp4"))) > 40


def test_wrong_pictures_times_and_numbers_are_refused(tmp_path):
    with ClipWriter(tmp_path / "a.mp4", (64, 48)) as clip:
        clip.write(gray(0), 5.0)
        with pytest.raises(
            ValueError, match=re.escape("is a clip of 64x48, and the picture's shape is (47, 64, 3)")
        ):
            clip.write(gray(1, (64, 47)))
        with pytest.raises(ValueError, match=r"time=4\.0 lies before the last frame"):
            clip.write(gray(1), 4.0)
    with pytest.raises(ValueError, match=r"must end with \.mp4"):
        ClipWriter(tmp_path / "a.avi", (64, 48))
    with pytest.raises(ValueError, match="fps=0 above 0"):
        ClipWriter(tmp_path / "b.mp4", (64, 48), 0)
    assert not np.any([(tmp_path / name).exists() for name in ("a.avi", "b.mp4")])
