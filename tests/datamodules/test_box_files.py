from pathlib import Path

import pytest
import torch
from PIL import Image

from lkd.datamodules.detection.formats.box_files import read_boxes

from ..pairs import voc

PERSON = {"person": 0, "car": 2}


@pytest.fixture
def picture(tmp_path):
    Image.new("L", (200, 100)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def written(picture, name, text):
    path = picture.parent / name
    path.write_text(text)
    return path


def test_voc_by_hand(picture):
    text = """<annotation><filename>x.jpg</filename><size><width>200</width><height>100</height><depth>3</depth></size>
    <object><name>person</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
      <bndbox><xmin>20</xmin><ymin>10</ymin><xmax>60</xmax><ymax>60</ymax></bndbox></object>
    <object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
    <object><name>car</name><bndbox><ymax>100</ymax><xmax>200</xmax><ymin>50.5</ymin><xmin>100</xmin></bndbox></object>
    </annotation>"""
    boxes, labels, ignored = read_boxes(written(picture, "a.xml", text), picture, PERSON)
    expected = torch.tensor([[0.1, 0.1, 0.3, 0.6], [0.5, 0.505, 1.0, 1.0]])
    assert torch.equal(boxes, expected) and labels.tolist() == [0, 2] and ignored == 0
    assert boxes.dtype == torch.float32 and labels.dtype == torch.int64


def test_voc_of_kaist_has_width_and_height(picture):
    text = """<annotation><object><name>person</name><bndbox><x>20</x><y>10</y><w>40</w><h>50</h></bndbox>
    <pose>unknown</pose><occlusion>0</occlusion><difficult>0</difficult></object></annotation>"""
    boxes, labels, _ = read_boxes(written(picture, "a.xml", text), picture, PERSON)  # no size: the picture's
    assert torch.equal(boxes, torch.tensor([[0.1, 0.1, 0.3, 0.6]])) and labels.tolist() == [0]


def test_the_size_that_the_file_says_comes_first(picture):
    """Labels of larger originals still fit pictures that were scaled down; a size of 0 says nothing."""
    large = voc([("person", (40, 20, 120, 120), 0)], size=(200, 400))
    assert torch.allclose(
        read_boxes(written(picture, "a.xml", large), picture, PERSON).boxes,
        torch.tensor([0.1, 0.1, 0.3, 0.6]),
    )
    none = voc([("person", (20, 10, 60, 60), 0)], size=(0, 0))
    assert torch.allclose(
        read_boxes(written(picture, "a.xml", none), picture, PERSON).boxes, torch.tensor([0.1, 0.1, 0.3, 0.6])
    )


def test_bbgt_by_hand(picture):
    text = "% bbGt version=3\nperson 20 10 40 50 0 0 0 0 0 0 0\ncar 100 50 100 50 1 0 0 0 0 0 90\ntree 1 1 2 2 0 0 0 0 0 0 0\n\n"
    boxes, labels, ignored = read_boxes(written(picture, "a.txt", text), picture, PERSON)
    assert torch.allclose(boxes, torch.tensor([[0.1, 0.1, 0.3, 0.6], [0.5, 0.5, 1.0, 1.0]]))
    assert labels.tolist() == [0, 2] and ignored == 0
    short = "% bbGt version=3\nperson 20 10 40 50 0 0 0 0 0\n"  # some files end with the visible box
    assert read_boxes(written(picture, "b.txt", short), picture, PERSON).labels.tolist() == [0]


def test_yolo_by_hand(picture):
    path = written(picture, "a.txt", "0 0.2 0.35 0.2 0.5\n3 0.5 0.5 0.5 0.5\n")
    boxes, labels, _ = read_boxes(path, picture, PERSON)
    assert torch.allclose(boxes[0], torch.tensor([0.1, 0.1, 0.3, 0.6])) and labels.tolist() == [0, 3]
    chosen = read_boxes(path, picture, {"3": 1})
    assert chosen.labels.tolist() == [1] and chosen.boxes.tolist() == [[0.25, 0.25, 0.75, 0.75]]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.xml", "<annotation></annotation>"), ("a.txt", ""), ("a.txt", "% bbGt version=3\n")],
)
def test_frames_without_objects(picture, name, text):
    boxes, labels, ignored = read_boxes(written(picture, name, text), picture, PERSON)
    assert boxes.shape == (0, 4) and labels.shape == (0,) and labels.dtype == torch.int64 and ignored == 0


def test_ignore_regions_are_no_objects(picture):
    here = (20, 10, 60, 60)
    text = voc(
        [
            ("person", here, 0),
            ("person", here, 1),
            ("people", here, 0),
            ("person?", here, 0),
            ("sign", here, 0),
        ]
    )
    path = written(picture, "a.xml", text)
    assert read_boxes(path, picture, PERSON)[1:][1] == 1  # what is marked in the file
    found = read_boxes(path, picture, PERSON, ["people", "person?"])
    assert found.ignored == 3 and found.labels.tolist() == [0]
    lines = [
        "% bbGt version=3",
        "person 0 0 9 9 0 0 0 0 0 0 0",
        "person 0 0 9 9 0 0 0 0 0 1 0",
        "person? 0 0 9 9 1 0 0 0 0 0 0",
    ]
    found = read_boxes(written(picture, "b.txt", "\n".join(lines)), picture, PERSON, ["person?"])
    assert found.ignored == 2 and found.labels.tolist() == [0]
    # a name that is a class and an ignore region is a region
    assert len(read_boxes(path, picture, PERSON, ["person"]).labels) == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", "<annotation><object>", r"a\.xml is damaged"),
        (
            "a.xml",
            "<annotation><object><name>person</name></object></annotation>",
            r"a\.xml, object 1 has no <name>, or no <bndbox>",
        ),
        ("a.xml", voc([("person", ("left", 1, 2, 3), 0)]), r"a\.xml, object 1 \(person\): could not convert"),
        (
            "a.txt",
            "% bbGt version=3\nperson 1 2 3\n",
            r"a\.txt, line 2: 'person 1 2 3' is not `name x y w h \.\.\.`",
        ),
        ("a.txt", "person 1 2 3 4", "is not `class x y w h`"),  # bbGt that has lost its header
    ],
)
def test_damaged_files_are_named(picture, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_boxes(written(picture, name, text), picture, PERSON)


def test_a_missing_file_is_named(picture):
    with pytest.raises(FileNotFoundError, match=r"label file .*no\.xml is missing"):
        read_boxes(Path(picture.parent / "no.xml"), picture, PERSON)
