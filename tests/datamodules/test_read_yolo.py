"""What YOLO data may look like: the rows of docs/data.md."""

import re
import warnings

import pytest

from lkd.datamodules import YoloFolder

from ..tables import (
    Table,
    folder,
    heard,
    picture,
    read,
    refused,
    refuses,
)

TABLE = Table("YOLO", "Folders of YOLO data")


@TABLE.row("`class x y w h`, class also")
def test_plain(tmp_path):
    folder(tmp_path, "0.0 0.5 0.5 0.2 0.2 # a car\n  4 .3 .5 .2 .4\n# nothing\n")
    assert read(tmp_path) == ([[0.4, 0.4, 0.6, 0.6], [0.2, 0.3, 0.4, 0.7]], [0, 4], "")


@TABLE.row("an empty file; a missing one")
def test_empty(tmp_path):
    folder(tmp_path, "\n")
    assert read(tmp_path) == ([], [], "")
    (tmp_path / "labels" / "cam_1.txt").unlink()
    (tmp_path / "labels" / "cam_3.txt").unlink()
    refused(lambda: read(tmp_path), r"cam_1\.txt is missing, one of 2 that are", FileNotFoundError)
    YoloFolder(str(tmp_path), unlabeled=True, fractions=(1.0, 0.0, 0.0)).setup("fit")


@TABLE.row("polygons and oriented boxes")
def test_polygons(tmp_path):
    cases = {
        "0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6": [0.4, 0.4, 0.6, 0.6],
        "0 0.4 0.3 0.7 0.4 0.6 0.7 0.3 0.6": [0.3, 0.3, 0.7, 0.7],
        "0 0.3 0.5 0.4 0.4 0.6 0.4 0.7 0.5 0.6 0.6 0.4 0.6": [0.3, 0.4, 0.7, 0.6],
        "0 0.3 0.5 0.4 0.4 0.6 0.9": [0.3, 0.4, 0.6, 0.9],
    }
    refuses(tmp_path, cases, "set polygons=True")
    for text, box in cases.items():
        folder(tmp_path, f"{text}\n1 .5 .5 .2 .2\n")  # boxes and polygons may stand in one file
        assert read(tmp_path, polygons=True) == ([box, [0.4, 0.4, 0.6, 0.6]], [0, 1], "")
    refuses(
        tmp_path,
        ["0 4 4 6 4 6 6", "0 .4 .4 -.2 .4 .6 .6", "0 .4 .4 nan .4 .6 .6"],
        "a point outside",
        polygons=True,
    )
    refuses(tmp_path, ["0 .4 .4 .6 .4 .6 .6 .4"], "is not `class x y w h`", polygons=True)


@TABLE.row("poses, with")
def test_poses(tmp_path):
    folder(tmp_path, "0 0.5 0.5 0.2 0.2 0.9 0.9 2 0.1 0.1 1\n")
    refused(lambda: read(tmp_path), "line 1: .* is not `class x y w h`")
    (tmp_path / "data.yaml").write_text("names: [person]\nkpt_shape: [2, 3]\n")
    assert read(tmp_path) == ([[0.4, 0.4, 0.6, 0.6]], [0], "")


@TABLE.row("a sixth number")
def test_malformed(tmp_path):
    refuses(
        tmp_path, ["0 .5 .5 .2 .2 .93"], "has a number after `class x y w h`, as predictions have their score"
    )
    refuses(tmp_path, ["0", "0 .5 .5 .2", "0 .5 .5 .2 .2 .3 .4 .5", "0,.5,.5,.2,.2", "0 0,5 0,5 0,2 0,2", "car .5 .5 .1 .1"],
            "is not `class x y w h`")  # fmt: skip
    refuses(tmp_path, ["-1 .5 .5 .1 .1", "0.5 .5 .5 .1 .1", "nan .5 .5 .1 .1"], "has no class")


@TABLE.row("pixels, `nan`")
def test_outside(tmp_path):
    refuses(tmp_path, ["0 32 24 10 10", "0 10 10 40 40", "0 .5 1.2 .1 .1"], "not pixels")
    refuses(tmp_path, ["0 .5 .5 -.2 .2", "0 .5 .5 .2 -.001"], "negative width or height")
    refuses(tmp_path, ["0 nan .5 .1 .1", "0 .5 .5 -inf .1"], "not finite")
    refuses(tmp_path, ["0 .5 -.3 .1 .1"], "outside the picture")


@TABLE.row("up to 1 % outside")
def test_clipped(tmp_path):
    folder(tmp_path, "0 1.005 0.5 0.1 0.2\n0 -0.009 .5 .1 .2\n0 .9 .5 .6 1.01\n0 0 0 1 1")
    expected = [[0.955, 0.4, 1.0, 0.6], [0.0, 0.4, 0.041, 0.6], [0.6, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]
    boxes, labels, said = read(tmp_path)
    assert (boxes, labels) == (expected, [0] * 4)
    assert re.search(
        r"left out 16 parts of boxes beyond the picture's edge \(such as .*cam_0\.txt, line 1", said
    )
    folder(
        tmp_path, "0 0.0833 0.5 0.1667 0.2\n"
    )  # four digits: what rounding puts beyond the edge is not worth a word
    assert read(tmp_path)[2] == ""


@TABLE.row("repeated lines, boxes without")
def test_repeated(tmp_path):
    folder(tmp_path, "0 .5 .5 .2 .2\n0 0.50 .5 .2 .2\n1 .5 .5 .2 .2\n0 .1 .1 0 .2\n")
    boxes, labels, said = read(tmp_path)
    assert (boxes, labels) == ([[0.4, 0.4, 0.6, 0.6]] * 2, [0, 1])
    assert re.search(r"left out 4 repeated boxes \(such as .*cam_0\.txt, line 2: '0 0.50 .5 .2 .2'\)", said)
    assert "4 boxes without area (such as" in said


@TABLE.row("classes that `class_map`")
def test_other_classes(tmp_path):
    folder(tmp_path, "".join(f"{k} .5 .5 .{k + 2} .2\n" for k in range(5)))
    assert read(tmp_path)[1:] == ([0, 1, 2, 3, 4], "")  # nobody's classes are merged or dropped by default
    _, labels, said = read(tmp_path, class_map={0: 0, 1: 0, 3: 1})
    assert labels == [0, 0, 1] and "left out 8 objects of other classes (2 4, 4 4)." in said
    (tmp_path / "data.yaml").write_text("names: {0: car, 1: bus, 2: truck, 3: bike, 4: dog}")
    _, labels, said = read(tmp_path, class_map={0: 0, 1: 0, 3: 1})
    assert "left out 8 objects of other classes (2 (truck) 4, 4 (dog) 4)." in said
    folder(tmp_path, "2 .5 .5 .2 .2\n")
    refused(
        lambda: read(tmp_path, class_map={0: 0}),
        r"class_map=\{0: 0\} leaves no object at all: .* of 2 \(truck\) 4",
    )
    refused(lambda: read(tmp_path, class_map={7: 0}), r"class_map=\{7: 0\} has \[7\], but the classes are")
    for wrong in ({}, {0: -1}, {-1: 0}):
        refused(lambda wrong=wrong: YoloFolder(str(tmp_path), class_map=wrong), "class_map=.* must map")


@TABLE.row("classes beyond the names")
def test_beyond(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [car, bus]")
    refuses(tmp_path, ["2 .5 .5 .1 .1"], "is of class 2, but there are names of 2")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "labels" / "classes.txt").write_text("car\nbus\n")
    refuses(tmp_path, ["2 .5 .5 .1 .1"], "is of class 2, but there are names of 2")
    (tmp_path / "labels" / "classes.txt").write_text("car\ncar\n")
    refused(lambda: read(tmp_path), r"labels/classes\.txt: the classes 0, 1 are all called 'car'")
    (tmp_path / "labels" / "classes.txt").write_text("car\nbus\n")
    folder(tmp_path)
    data = YoloFolder(str(tmp_path))
    _, said = heard(data.frames)
    assert data.names == ["car", "bus"] and not said  # classes.txt is no label file


@TABLE.row("label files without a picture")
def test_orphans(tmp_path):
    folder(tmp_path)
    (tmp_path / "images" / "cam_1.png").unlink()
    data = YoloFolder(str(tmp_path))
    frames, said = heard(data.frames)
    assert len(frames) == 3 and re.search(
        r"left out 1 label files without a picture \(such as .*cam_1\.txt\)", said
    )


@TABLE.row("`images/` and `labels/`, also")
def test_layouts(tmp_path):
    nested = folder(tmp_path / "a", images="images/lot", labels="labels/lot", name="{}.png")
    frames = YoloFolder(str(nested)).frames()
    assert {f.camera for f in frames} == {"lot"} and len(read(nested)[0]) == 1
    for part in ("train", "valid", "test"):
        folder(tmp_path / "b", images=f"{part}/images", labels=f"{part}/labels")
    assert len(YoloFolder(str(tmp_path / "b")).frames()) == 12 and len(read(tmp_path / "b")[0]) == 1
    folder(tmp_path / "c", images="obj", labels="obj")
    (tmp_path / "c" / "data.yaml").write_text("train: obj")
    assert len(read(tmp_path / "c")[0]) == 1
    folder(tmp_path / "images" / "d")  # what is above tmp_path is not taken for the folder of pictures
    assert len(read(tmp_path / "images" / "d")[0]) == 1


@TABLE.row("`data.yaml`: `names`")
def test_names(tmp_path):
    folder(tmp_path)
    for text in ("names: [car, bus]\nnc: 2", "names: {0: car, 1: bus}", "names:\n  1: bus\n  0: car\n"):
        (tmp_path / "data.yaml").write_text(text)
        for place in (tmp_path, tmp_path / "data.yaml"):
            data = YoloFolder(str(place))
            assert len(data.frames()) == 4 and data.names == ["car", "bus"]
    for text, message in (
        ("names: [car, bus]\nnc: 3", "nc=3, but there are 2 names"),
        ("names: {0: car, 2: bus}", "must number the classes 0, 1, 2"),
        ("names: car", "must be a list of names"),
        ("names: [car, bus, car]", "the classes 0, 2 are all called 'car'"),
        ("names: [car, null]", "the name of class 1 is None; write its name, in quotes"),
        ("names: {0: yes, 1: bus}", "the name of class 0 is True; write its name, in quotes"),
        ("nc: many", "names, nc or kpt_shape is wrong"),
        ("- car", "must be a mapping"),
        ("names: [car", "is damaged"),
    ):
        (tmp_path / "data.yaml").write_text(text)
        refused(YoloFolder(str(tmp_path)).frames, rf"data\.yaml.*{message}")


@TABLE.row("`data.yaml`: `path`")
def test_parts(tmp_path):
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        folder(
            tmp_path,
            count=count,
            images=f"images/{part}",
            labels=f"labels/{part}",
            name="cam_" + part + "{}.png",
        )
    lines = "\n".join(f"./images/val/cam_val{k}.png" for k in (0, 2))
    (tmp_path / "val.txt").write_text(lines + "\n\n")

    def sizes(**kwargs):
        data = YoloFolder(str(tmp_path), **kwargs)
        data.setup("test")
        return [[frame.path.stem for frame in part] for part in data.splits]

    by_folder = [
        [f"cam_train{k}" for k in range(5)],
        [f"cam_val{k}" for k in range(3)],
        ["cam_test0", "cam_test1"],
    ]
    assert sizes() == sizes(split="given") == by_folder
    assert [len(part) for part in sizes(split="by_time")] == [6, 2, 2]
    for text, second in (
        ("train: images/train\nval: images/val\ntest: images/test", by_folder[1]),
        (
            f"path: {tmp_path}\ntrain: [images/train]\nvalid: val.txt\ntest: images/test",
            ["cam_val0", "cam_val2"],
        ),
        (
            "path: ../elsewhere\ntrain: ../images/train\nval: [val.txt]\ntest: ../images/test",
            ["cam_val0", "cam_val2"],
        ),
    ):
        (tmp_path / "data.yaml").write_text(text)
        found = sizes()
        assert found == [by_folder[0], second, by_folder[2]]
    (tmp_path / "data.yaml").write_text("names: [car]")  # says no parts: the folders do
    assert sizes() == by_folder
    folder(tmp_path / "flat")
    refused(
        YoloFolder(str(tmp_path / "flat"), split="given").setup,
        "no folders train, val, test and no data.yaml",
    )


@TABLE.row("a part that is not named")
def test_missing_part(tmp_path):
    for part in ("train", "val"):
        folder(
            tmp_path, count=4, images=f"images/{part}", labels=f"labels/{part}", name="cam_" + part + "{}.png"
        )
    data = YoloFolder(str(tmp_path))
    with pytest.warns(UserWarning, match="no test part is given, but val is: the last 2 of its 4 samples"):
        data.setup("test")
    assert [[f.path.stem[4:] for f in part] for part in data.splits] == [
        ["train0", "train1", "train2", "train3"],
        ["val0", "val1"],
        ["val2", "val3"],
    ]
    whole = YoloFolder(str(tmp_path), fractions=(0.8, 0.2, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole.setup("fit")
    assert [len(part) for part in whole.splits] == [4, 4, 0]


@TABLE.row("a file like `data.yaml`")
def test_another_name(tmp_path):
    folder(tmp_path, "1 .5 .5 .1 .1")
    (tmp_path / "lot.yml").write_text("names: [car]\n")
    assert "left out 1 files like a data.yaml of another name" in heard(YoloFolder(str(tmp_path)).frames)[1]
    refused(lambda: read(tmp_path / "lot.yml"), "is of class 1, but there are names of 1")


@TABLE.row("`test/` beside the folders")
@pytest.mark.parametrize("places", ["images/{}", "{}/images"])
def test_part_beside_the_named_ones(tmp_path, places):
    for part in ("train", "valid", "test"):
        images = places.format(part)
        folder(
            tmp_path,
            count=3,
            images=images,
            labels=images.replace("images", "labels"),
            name=f"cam_{part}{{}}.png",
        )
    yaml = f"train: {places.format('train')}\nval: {places.format('valid')}\n"
    (tmp_path / "data.yaml").write_text(yaml)
    frames, said = heard(YoloFolder(str(tmp_path)).frames)
    assert len(frames) == 6
    assert re.search(
        r"left out 3 pictures in folders of parts that data.yaml does not name \(such as .*cam_test0\.png",
        said,
    )
    (tmp_path / "data.yaml").write_text(f"{yaml}test: {places.format('test')}\n")
    assert heard(YoloFolder(str(tmp_path)).frames)[1] == ""


@TABLE.row("a picture in two parts")
def test_contradictions(tmp_path):
    folder(tmp_path, images="images/train", labels="labels/train")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train")
    refused(YoloFolder(str(tmp_path)).frames, r"cam_0\.png is in both train and val")
    assert len(YoloFolder(str(tmp_path), split="by_time").frames()) == 4
    (tmp_path / "data.yaml").write_text("train: list.txt")
    (tmp_path / "list.txt").write_text("images/train/cam_0.png\nimages/train/cam_9.png\n")
    refused(
        YoloFolder(str(tmp_path)).frames, r"list\.txt, line 2: .*cam_9\.png is missing", FileNotFoundError
    )
    (tmp_path / "data.yaml").write_text("train: /content/elsewhere")
    refused(YoloFolder(str(tmp_path)).frames, r"train=/content/elsewhere is not there", FileNotFoundError)
    (tmp_path / "data.yaml").unlink()
    picture(tmp_path / "images" / "cam_7.png")
    refused(YoloFolder(str(tmp_path)).frames, r"1 are not \(such as .*cam_7\.png\)")
    (tmp_path / "images" / "cam_7.png").unlink()
    picture(tmp_path / "images" / "train" / "cam_0.jpg")
    refused(YoloFolder(str(tmp_path)).frames, r"cam_0\.jpg and .*cam_0\.png share the label file")


@TABLE.row("names without a camera")
def test_cameras(tmp_path):
    folder(tmp_path, name="{}.png")
    refused(YoloFolder(str(tmp_path)).frames, r"0\.png has no camera in its name")
    frames = YoloFolder(str(tmp_path), camera="yard").frames()
    assert {f.camera for f in frames} == {"yard"} and len({f.time for f in frames}) == 4
    folder(tmp_path / "b", name="{}_jpg.rf.png")  # each a camera of its own, going by the names
    with pytest.warns(UserWarning, match="each of the 4 pictures .* is of another camera"):
        YoloFolder(str(tmp_path / "b")).frames()


def test_every_row_of_the_table_has_a_test():
    assert not TABLE.left
