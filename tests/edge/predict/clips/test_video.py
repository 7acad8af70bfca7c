import itertools
import re
import threading
import traceback
from fractions import Fraction

import numpy as np
import pytest

from lkd.edge.predict.clips.video import VideoSource
from lkd.edge.predict.sources import open_source

from .made import SIZE, av, camera, gray, needs_av, served, which, write_clip

pytestmark = needs_av

FORMATS = {
    "a.mp4": {"codec": "libx264"},
    "a.avi": {"codec": "mpeg4"},
    "a.mkv": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "a.mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_frame_of_a_clip_comes_with_its_number(name, tmp_path):
    source = VideoSource(write_clip(tmp_path / name, **FORMATS[name]))
    frames = list(source)
    assert source.size == SIZE and not source.live and source.rate in (10, 25)  # an .mjpeg says no rate
    assert [which(frame) for frame in frames] == [frame.number for frame in frames] == list(range(12))
    assert frames[0].time == 0 and frames[0].source == str(tmp_path / name)
    assert not source.skipped and not source.dropped
    assert len(source.notes) == (name == "a.mjpeg")  # which has no timestamps
    source.close()


CONTAINERS = {
    "a.gif": {"codec": "gif", "pixels": "rgb8"},
    "a.wmv": {"codec": "wmv2"},
    "a.flv": {"codec": "flv"},
    "a.mpg": {"codec": "mpeg1video", "rate": 25},
    "a.3gp": {"codec": "mpeg4"},
    "a.m2ts": {"codec": "mpeg2video", "rate": 25},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_pyav_reads_is_a_clip_by_its_suffix(name, tmp_path):
    try:
        path = write_clip(tmp_path / name, 4, **CONTAINERS[name])
    except (av.error.FFmpegError, ValueError) as error:  # a PyAV without this encoder
        pytest.skip(f"PyAV writes no {name} here: {error}")
    source = open_source([str(path)])
    assert isinstance(source, VideoSource) and [which(frame) for frame in source] == [0, 1, 2, 3]


def test_times_are_those_of_the_clip_though_its_rate_varies(tmp_path):
    times = [0.0, 0.1, 0.5, 0.6, 2.0]
    source = VideoSource(write_clip(tmp_path / "a.mp4", 5, "libx264", times=[5 + time for time in times]))
    assert [frame.time for frame in source] == pytest.approx(times)


def test_times_go_on_where_two_recordings_were_joined(tmp_path):
    path = write_clip(tmp_path / "a.ts", 4, "mpeg4")
    path.write_bytes(path.read_bytes() * 2)
    source = VideoSource(path)
    assert [frame.time for frame in source] == pytest.approx([0.1 * number for number in range(8)])
    assert source.notes == [
        f"the clock of {path} jumps back at frame 4, by 0.30 s; its times go on from 0.40 s."
    ]


@pytest.mark.parametrize("name", ["a.mjpeg", "a.h264"])
def test_times_of_a_clip_without_timestamps_are_counted_and_that_is_said(name, tmp_path):
    path = write_clip(tmp_path / name, 4, **{**FORMATS["a.mp4"], **FORMATS.get(name, {})})
    source = VideoSource(path)
    assert [frame.time for frame in source] == pytest.approx([number / 25 for number in range(4)])
    assert source.notes == [f"{path} has no timestamps: its times count 25 frames a second, whatever it was."]


def test_every_third_frame_keeps_numbers_and_times(tmp_path):
    source = VideoSource(write_clip(tmp_path / "a.mp4", 12, "libx264"), every=3)
    frames = list(source)
    assert [frame.number for frame in frames] == [which(frame) for frame in frames] == [0, 3, 6, 9]
    assert (
        frames[-1].time == pytest.approx(0.9) and source.rate == pytest.approx(10 / 3) and source.dropped == 0
    )


TURNS = {
    "left": ({"degrees": 90}, np.rot90),
    "over": ({"degrees": 180}, lambda image: image[::-1, ::-1]),
    "right": ({"degrees": -90}, lambda image: np.rot90(image, -1)),
    "mirrored": ({"degrees": 0, "hflip": True}, lambda image: image[:, ::-1]),
    "left and mirrored": ({"degrees": 90, "hflip": True}, lambda image: np.rot90(image)[:, ::-1]),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_turned_camera_gives_upright_pictures(name, tmp_path):
    how, turned = TURNS[name]
    stored = next(iter(VideoSource(write_clip(tmp_path / "a.mp4", 3, "libx264")))).image
    source = VideoSource(write_clip(tmp_path / "b.mp4", 3, "libx264", turned=how))
    image = next(iter(source)).image
    assert source.size == (image.shape[1], image.shape[0]) and image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, turned(stored))


def test_a_clip_that_is_turned_by_no_quarter_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is turned by 29 degrees, which is no quarter"):
        VideoSource(write_clip(tmp_path / "a.mp4", 3, "libx264", turned={"degrees": 30}))


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_a_damaged_frame_is_named_and_skipped(name, tmp_path):
    path = write_clip(tmp_path / name, 12, "mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", bytes(data))]
    at = starts[4] + 700  # beyond its tables, in the entropy-coded noise
    data[at : at + 60] = b"\xff\xc5" * 30
    path.write_bytes(data)
    source = VideoSource(path)
    assert (
        [frame.number for frame in source]
        == [which(f) for f in VideoSource(path)]
        == [0, 1, 2, 3, *range(5, 12)]
    )
    assert source.skipped == [f"frame 4 of {path} is damaged and skipped."]


def test_a_clip_that_breaks_off_says_how_much_is_there(tmp_path):
    path = write_clip(tmp_path / "a.avi", 12, "mjpeg", pixels="yuvj420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    source = VideoSource(path)
    frames = list(source)
    assert 1 < len(frames) < 12 and [which(frame) for frame in frames] == list(range(len(frames)))
    assert re.search(
        r"a\.avi broke off: \d+ of the 12 frames that it announces are there; its rest is missing",
        source.skipped[-1],
    )


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_a_clip_in_which_frames_are_left_out_is_whole(name, tmp_path):
    times = [0.0, 0.1, 0.2, 1.0, 1.1, 3.0]  # AVI has an empty frame for each tick between
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for time in times:
            frame = av.VideoFrame.from_ndarray(gray(round(10 * time)), "rgb24")
            frame.pts, frame.time_base = round(10 * time), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = VideoSource(path)
    assert [frame.time for frame in source] == pytest.approx(times) and source.skipped == []


def test_what_is_no_clip_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(ValueError, match=r"text\.mp4 is no video that can be read"):
        VideoSource(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4' does not exist"):
        VideoSource(tmp_path / "gone.mp4")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ValueError, match=r"sound\.wav has no video in it, but audio"):
        VideoSource(tmp_path / "sound.wav")
    with av.open(str(tmp_path / "empty.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = SIZE
        container.start_encoding()
    with pytest.raises(ValueError, match=r"empty\.avi has a video without frames that can be decoded\."):
        VideoSource(tmp_path / "empty.avi")
    with pytest.raises(ValueError, match="begins with ftp://, which is not read"):
        VideoSource("ftp://somebody:secret@there/a.mp4")
    with pytest.raises(ValueError, match="every=0 must be 1 or more"):
        VideoSource(tmp_path / "text.mp4", every=0)
    with pytest.raises(ValueError, match="timeout=0 must be above 0"):
        VideoSource(tmp_path / "text.mp4", timeout=0)


def test_a_password_is_not_shown():
    with pytest.raises(
        ValueError, match=r"^http://\*\*\*@127\.0\.0\.1:9/live\?\*\*\* cannot be reached"
    ) as error:
        VideoSource("http://admin:secret@127.0.0.1:9/live?token=secret", timeout=1)
    assert "secret" not in "".join(traceback.format_exception(error.value.with_traceback(None)))


def test_a_playlist_of_a_stranger_reads_no_file_of_this_machine(tmp_path):
    clip = write_clip(tmp_path / "a.ts", 3, "mpeg4")
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"

    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/vnd.apple.mpegurl")
        handler.end_headers()
        handler.wfile.write(text.encode())

    with served(answer) as address, pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        VideoSource(f"{address}/live.m3u8", timeout=2)


def test_a_live_stream_that_breaks_off_is_joined_again_a_bounded_number_of_times():
    with served(lambda handler, n: camera(handler, range(4 * n, 4 * n + 4))) as address:
        source = VideoSource(address, reconnect=2, timeout=30, backoff=0.01)
        assert source.live and source.size == SIZE
        shown = [which(frame) for frame in source]
    assert shown == sorted(shown) and shown[-1] == 11  # the last frame of all is never dropped
    assert source.joined == 2 and len(source.notes) == 3
    assert re.fullmatch(
        rf"{address} (ended|broke off: .*); it is joined again, at try 1 of 2\.", source.notes[0]
    )
    assert source.notes[2].endswith("; it is given up after 2 tries in a row to join it again.")
    source.close()


def test_who_is_slow_misses_frames_of_a_live_stream_and_does_not_lag():
    at_work = threading.Event()

    def answer(handler, _):
        camera(handler, range(20))
        at_work.wait(5)
        camera(handler, range(20, 30), begin=False)

    with served(answer) as address:
        source = VideoSource(address, reconnect=0, timeout=30)
        frames = iter(source)
        first = next(frames)
        at_work.set()
        source._latest._thread.join(10)  # so long does the work on the first frame take
        rest = list(frames)
    assert [frame.number for frame in rest] == [29] and which(rest[0]) == 29 and first.time < rest[0].time
    assert (
        9 <= source.dropped <= 28
    )  # those of the ten at least, and what was dropped before anybody asked is not counted
    source.close()


def test_damaged_frames_of_a_live_stream_are_named():
    def answer(handler, _):
        camera(handler, range(6))
        broken = b"\xff\xd8\xff\xe0nothing of a picture"
        handler.wfile.write(
            b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(broken) + broken
        )
        handler.wfile.write(b"\r\n")

    with served(answer) as address:
        source = VideoSource(address, reconnect=0, timeout=30)
        source._latest._thread.join(10)
        assert [frame.number for frame in source][-1] == 5
        assert source.skipped == [f"frame 6 of {address} is damaged and skipped."]


def test_a_clip_on_a_server_loses_no_frame_though_the_connection_breaks(tmp_path):
    data = write_clip(tmp_path / "a.ts", 40, "mpeg4").read_bytes()

    def answer(handler, request):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data if request else data[: len(data) // 2])

    with served(answer) as address:
        source = VideoSource(f"{address}/a.ts", timeout=30, backoff=0.01)
        assert not source.live
        frames = list(itertools.islice(source, 100))
    assert [frame.number for frame in frames] == list(range(40)) and source.joined == 1 and not source.skipped
    assert frames[-1].time == pytest.approx(3.9)
