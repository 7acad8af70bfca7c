import pytest

from lkd.datamodules.io.path_pattern import PathPattern


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_and_what_stands_in_their_places(tmp_path):
    touch(
        tmp_path,
        "JPEGImages/FLIR_2_RGB.jpg",
        "JPEGImages/FLIR_2_PreviewData.jpeg",
        "JPEGImages/x.txt",
        "FLIR_3_RGB.jpg",
    )
    pattern = PathPattern("JPEGImages/{frame}_RGB.jpg", "visible")
    assert pattern.places == {"frame"} and pattern.base(tmp_path) == tmp_path
    assert pattern.files(tmp_path) == {(("frame", "FLIR_2"),): tmp_path / "JPEGImages/FLIR_2_RGB.jpg"}


def test_places_hold_no_slashes_and_twice_the_same():
    pattern = PathPattern("{day}/cam.{camera}/{day}_{hour}.png", "visible")
    assert pattern.match("d1/cam.7/d1_09.png") == (("camera", "7"), ("day", "d1"), ("hour", "09"))
    assert pattern.match("d1/cam.7/d2_09.png") is None and pattern.match("a/d1/cam.7/d1_09.png") is None
    assert pattern.match("d1/camX7/d1_09.png") is None  # a dot is a dot


@pytest.mark.parametrize("deep", ["", "one/", "one/two/"])
def test_archives_unpack_too_deep(tmp_path, deep):
    touch(tmp_path, f"{deep}images/set[0]/a.jpg")
    pattern = PathPattern("images/set[0]/{frame}.jpg", "visible")  # nothing but braces is special
    assert pattern.base(tmp_path) == tmp_path / deep
    assert len(pattern.files(tmp_path / deep)) == 1
    assert PathPattern("videos/{frame}.jpg", "visible").base(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["a/{}.jpg", "a/{0}.jpg", "a/{frame:.2}.jpg", "a/{frame!r}.jpg", "a/{frame", "a/b.jpg", "/a/{frame}"],
)
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match="thermal="):
        PathPattern(text, "thermal")
