import numpy as np
import pytest
from PIL import Image, features

from lkd.edge.predict.sentences import KEPT
from lkd.edge.predict.sources import PictureSource, is_stream, open_source

from ..files import picture


def test_pictures_folders_and_globs(tmp_path):
    names = ["a.png", "sub/b.PNG", "sub/deep/c.jpg", ".hidden/d.png", "sub/._e.png"]
    for name in names:
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")

    def found(*words):
        return [frame.source.removeprefix(f"{tmp_path}/") for frame in open_source([str(w) for w in words])]

    assert found(tmp_path) == ["a.png", "sub/b.PNG", "sub/deep/c.jpg"]
    assert found(tmp_path / "**" / "*.jpg") == ["sub/deep/c.jpg"]
    assert found(tmp_path / "a.png", tmp_path / "sub") == ["a.png", "sub/b.PNG", "sub/deep/c.jpg"]
    source = open_source([str(tmp_path)], every=2)
    assert len(source) == 2 and [frame.number for frame in source] == [0, 2]


def test_pictures_are_in_natural_order(tmp_path):
    for name in ("1.png", "2.png", "10.png", "11.png", "cam9/1.png", "cam10/1.png"):
        picture(tmp_path / name)

    def found(word):
        return [
            path.relative_to(tmp_path).with_suffix("").as_posix() for path in open_source([str(word)]).paths
        ]

    assert found(tmp_path) == ["1", "2", "10", "11", "cam9/1", "cam10/1"]
    assert found(tmp_path / "*.png") == ["1", "2", "10", "11"]


def test_a_picture_that_is_named_twice_is_used_once(tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / "two" / name)
    again = tmp_path / "two" / ".." / "two" / "b.png"
    with pytest.warns(UserWarning, match=r"names .*b\.png more than once, and 2 other pictures too"):
        source = open_source([str(tmp_path / "two"), str(again), str(tmp_path / "two" / "?.png")])
    assert source.paths == [tmp_path / "two" / "a.png", tmp_path / "two" / "b.png"]


def test_a_picture_is_upright(tmp_path):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    (frame,) = open_source([str(tmp_path)])
    assert frame.image.shape == (6, 4, 3) and frame.time is None


def test_what_is_damaged_is_named_and_skipped(tmp_path):
    whole = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:60])
    (tmp_path / "c.jpg").write_bytes(b"")
    picture(tmp_path / "d.png")
    source = open_source([str(tmp_path)])
    assert [frame.number for frame in source] == [0, 3]
    assert len(source.skipped) == 2 and "b.png is damaged" in source.skipped[0]
    gone = PictureSource([tmp_path / "x.png"])
    assert not list(gone) and "x.png is missing" in gone.skipped[0]


def test_a_damaged_avif_is_one_of_them(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    whole, path = picture(tmp_path / "a.avif").read_bytes(), tmp_path / "b.avif"
    picture(tmp_path / "c.png")
    start = whole.rindex(b"mdat") + 4
    for damaged in (whole[:start] + bytes(len(whole) - start), whole.replace(b"av01", b"av99")):
        path.write_bytes(damaged)
        source = open_source([str(tmp_path)])
        assert [frame.number for frame in source] == [0, 2]
        assert "b.avif is damaged" in source.skipped[0]


def test_of_very_many_the_first_are_named_and_all_are_counted(tmp_path):
    source = PictureSource([tmp_path / f"{number}.png" for number in range(1200)])
    assert not list(source) and source.skipped.total == 1200
    assert len(source.skipped) == KEPT < 1200 and "999.png is missing" in source.skipped[-1]


def test_other_files_in_a_folder_are_counted(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.heic").touch()
    with pytest.warns(UserWarning, match=r"has 1 other files, which are passed over \(.heic\)"):
        assert len(open_source([str(tmp_path)])) == 1


def test_bad_sources(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    (tmp_path / "a.docx").touch()
    for word, kind, sentence in [
        ("empty", FileNotFoundError, "the folder, and those below it, has no picture."),
        ("clips", FileNotFoundError, r"files with the suffix .mp4; a clip is named by itself: .*a\.mp4"),
        ("a.docx", ValueError, r"no picture by its suffix, \.docx: predict reads \.jpg"),
        ("*.png", FileNotFoundError, "matches no file"),
        ("gone.png", FileNotFoundError, r"gone\.png' does not exist"),
        ("gone.mp4", FileNotFoundError, r"gone\.mp4' does not exist"),
    ]:
        with pytest.raises(kind, match=sentence):
            open_source([str(tmp_path / word)])
    with pytest.raises(ValueError, match=r"predicted by itself; name rtsp://\*\*\*@x alone"):
        open_source(["a.png", "rtsp://me:secret@x"])
    with pytest.raises(ValueError, match="every=0 must be 1 or more"):
        open_source(["a.png"], every=0)


def test_a_folder_may_be_called_like_a_clip(tmp_path):
    picture(tmp_path / "cam.ts" / "a.png")
    assert not is_stream(str(tmp_path / "cam.ts")) and len(open_source([str(tmp_path / "cam.ts")])) == 1
