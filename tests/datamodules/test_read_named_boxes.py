"""What files of boxes with names may look like, Pascal VOC and bbGt: the rows of docs/data.md."""

import re

from lkd.datamodules import RGBThermalFolder

from ..tables import (
    HERE,
    Table,
    annotation,
    pair,
    picture,
    refused,
    thing,
    turned,
)

TABLE = Table("Pascal VOC", "bbGt")


@TABLE.row("`xmin, ymin, xmax, ymax` or")
def test_voc_boxes(tmp_path):
    assert pair(tmp_path, annotation(thing())) == ([HERE], [0], "")
    sized = "<x>20.0</x><y>10</y><w>40</w><h>50.0</h>"
    assert pair(tmp_path, annotation(thing(box=sized)))[0] == [HERE]
    whole = "<xmin>1</xmin><ymin>1</ymin><xmax>200</xmax><ymax>100</ymax>"
    assert pair(tmp_path, annotation(thing(box=whole)))[0] == [[0.005, 0.01, 1.0, 1.0]]


@TABLE.row("`<size>`; none")
def test_voc_size(tmp_path):
    large = "<xmin>40</xmin><ymin>20</ymin><xmax>120</xmax><ymax>120</ymax>"
    assert pair(tmp_path, annotation(thing(box=large), size=(400, 200)))[0] == [HERE]
    assert pair(tmp_path, annotation(thing(), size=(0, 0)))[0] == [HERE]
    assert pair(tmp_path, f"<annotation>{thing()}</annotation>")[0] == [HERE]


@TABLE.row("`<size>` on its side")
def test_voc_on_its_side(tmp_path):
    refused(
        lambda: pair(tmp_path, annotation(thing(), size=(100, 200))),
        r"0\.xml: the size 100x200 is on its side",
    )
    for sensor in ("rgb", "ir"):
        picture(tmp_path / "b" / sensor / "0.png")
    text = annotation(thing(), size=(20, 40))  # as it is stored
    (tmp_path / "b" / "labels").mkdir(parents=True)
    (tmp_path / "b" / "labels" / "0.xml").write_text(text)
    turned(tmp_path / "b" / "ir" / "0.png")
    turned(tmp_path / "b" / "rgb" / "0.png")
    options = {
        "visible": "rgb/{frame}.png",
        "thermal": "ir/{frame}.png",
        "labels": "labels/{frame}.xml",
        "camera": "c",
    }
    data = RGBThermalFolder(str(tmp_path / "b"), **options)
    refused(lambda: data.annotate(data.frames()), r"size 20x40 is on its side, .* is 40x20 when upright")


@TABLE.row("`<difficult>`")
def test_voc_states(tmp_path):
    states = ("0", "1", "true", "False", " ")
    objects = [thing(more=f"<difficult>{state}</difficult><truncated>1</truncated>", box=f"<x>{k}</x><y>10</y><w>40</w><h>50</h>")
               for k, state in enumerate(states)]  # fmt: skip
    assert pair(tmp_path, annotation(*objects))[1] == [0, 0, 0]
    wrong = annotation(thing(more="<difficult>maybe</difficult>"))
    refused(
        lambda: pair(tmp_path, wrong),
        r"0\.xml, object 1 \(person\): <difficult>maybe</difficult> must be 0 or 1",
    )


@TABLE.row("names that `classes` does not")
def test_voc_names(tmp_path):
    _, labels, said = pair(tmp_path, annotation(thing(), thing("dog"), thing("Person")))
    assert labels == [0] and "left out 2 objects of other classes (dog 1, Person 1)." in said
    refused(
        lambda: pair(tmp_path, annotation(thing("Person"))),
        r"classes=\{'person': 0\} leaves no object at all: .* of Person 1",
    )


@TABLE.row("xmin > xmax")
def test_voc_refused(tmp_path):
    def box(x1, y1, x2, y2):
        return annotation(
            thing(), thing(box=f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>")
        )

    place = r"0\.xml, object 2 \(person\)"
    refused(lambda: pair(tmp_path, box(60, 10, 20, 60)), rf"{place} .*negative width or height")
    refused(
        lambda: pair(tmp_path, box(300, 10, 400, 60)),
        rf"{place} of a 200x100 picture: .* outside the picture",
    )
    refused(lambda: pair(tmp_path, box("nan", 10, 20, 60)), rf"{place} .*not finite")
    refused(lambda: pair(tmp_path, box("", 10, 20, 60)), rf"{place}: could not convert")
    for text in ("<object><name>person</name></object>", thing("")):
        refused(lambda text=text: pair(tmp_path, annotation(text)), r"object 1 has no <name>, or no <bndbox>")
    refused(lambda: pair(tmp_path, "<annotations><image><box/></image></annotations>"), "no Pascal VOC file")
    refused(
        lambda: pair(tmp_path, annotation(thing()).replace("object>", "Object>")), "<Object> must be <object>"
    )
    refused(lambda: pair(tmp_path, annotation(thing())[:-9]), r"0\.xml is damaged")


@TABLE.row("repeated objects")
def test_voc_repeated(tmp_path):
    flat = "<x>20</x><y>10</y><w>40</w><h>0</h>"
    boxes, _, said = pair(tmp_path, annotation(thing(), thing(), thing(box=flat)))
    assert boxes == [HERE]
    assert re.search(r"1 repeated boxes \(such as .*0\.xml, object 2 \(person\)", said)
    assert re.search(r"1 boxes without area \(such as .*0\.xml, object 3 \(person\)", said)


@TABLE.row("`name x y w h ...`")
def test_bbgt(tmp_path):
    head = "% bbGt version=3\nperson 20 10 40 50 0 0 0 0 0 0 0\n"
    more = "person 20 10 40 50 0 0 0 0 0 0 0\nperson 1 1 9 9 0 0 0 0 0 1 0\ncar 1 1 9 9 0 0 0 0 0 0 0\n"
    boxes, labels, said = pair(tmp_path, head + more, "a.txt")
    assert (boxes, labels) == ([HERE], [0]) and "1 repeated boxes" in said and "(car 1)" in said
    for line, message in (
        ("person 20 10 -4 50", "negative width or height"),
        ("person 900 10 40 50", "outside the picture"),
        ("person nan 10 40 50", "not finite"),
        ("person 20 10 40", "is not `name x y w h"),
    ):
        refused(lambda line=line: pair(tmp_path, head + line, "a.txt"), rf"0\.txt, line 3.*{message}")


def test_every_row_of_the_table_has_a_test():
    assert not TABLE.left
