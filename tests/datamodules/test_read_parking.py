"""What the files of PKLot and CNRPark-EXT may look like: the rows of docs/data.md."""

import gzip
import re
from functools import partial

import torch
from PIL import Image

from lkd.datamodules import CNRParkEXT, PKLot
from lkd.datamodules.detection.cnrpark_layout import slot_boxes
from lkd.datamodules.detection.pklot import read_slots
from lkd.slot_labels import read_patches

from ..tables import (
    Table,
    heard,
    picture,
    refused,
)

TABLE = Table("PKLot", "CNRPark-EXT")


CONTOUR = "".join('<point x="{}" y="{}"/>'.format(*p) for p in ((10, 5), (30, 8), (28, 25), (9, 20)))


def lot(root, *spaces, tag="parking"):
    picture(root / "seq" / "frames" / "1.png", (100, 50))
    (root / "seq" / "bounding_boxes").mkdir(exist_ok=True)
    path = root / "seq" / "bounding_boxes" / "1.xml"
    path.write_text(f'<{tag} id="lotA">{"".join(spaces)}</{tag}>')
    return path


def space(state='occupied="1"', contour=CONTOUR):
    return f'<space id="7" {state}><contour>{contour}</contour></space>'


@TABLE.row("`occupied` 0 or 1")
def test_slot_states(tmp_path):
    path = lot(tmp_path, space(), space('occupied="0"'), space(""))
    assert [busy for _, busy in read_slots(path)] == [True, False, None]
    data = PKLot(str(tmp_path), targets="slots")
    (frame,), said = heard(lambda: data.annotate(data.frames()))
    torch.testing.assert_close(frame.boxes, torch.tensor([[0.09, 0.1, 0.3, 0.5]]))
    assert re.search(
        r"left out 1 slots that are said to be neither busy nor free \(such as .*1\.xml, space 7\)", said
    )
    path = lot(tmp_path, space('occupied="maybe"'))
    refused(partial(read_slots, path), r"1\.xml, space 7: occupied='maybe' must be 0 or 1")


@TABLE.row("a mask that is damaged")
def test_masks(tmp_path):
    lot(tmp_path, space())
    path = picture(tmp_path / "seq" / "masks" / "1.png", (100, 50))
    data, whole = PKLot(str(tmp_path)), path.read_bytes()
    refused(lambda: data.annotate(data.frames()), r"masks/1\.png holds the value 90, not 0, 1 and 2 alone")
    path.write_bytes(whole[:60])
    refused(lambda: data.annotate(data.frames()), r"masks/1\.png is damaged")
    Image.new("RGB", (50, 50)).save(path)
    refused(lambda: data.annotate(data.frames()), r"masks/1\.png is 50x50, its frame 100x50")


@TABLE.row("a contour of less")
def test_contours(tmp_path):
    path = lot(tmp_path, space(contour=CONTOUR.replace("point", "Point")))
    assert len(read_slots(path)[0][0]) == 4
    for contour in ("", '<point x="1" y="2"/>', CONTOUR.replace('x="10"', 'x="nan"')):
        path = lot(tmp_path, space(contour=contour))
        refused(partial(read_slots, path), r"1\.xml, space 7: the contour must have three points")
    for contour in (CONTOUR.replace('x="10"', ""), CONTOUR.replace('x="10"', 'x="ten"')):
        path = lot(tmp_path, space(contour=contour))
        refused(partial(read_slots, path), r"1\.xml, space 7: a point of the contour has no x or y")
    lot(tmp_path, space(contour=CONTOUR.replace('"30"', '"3000"').replace('"28"', '"2900"')))
    data = PKLot(str(tmp_path), targets="slots")
    refused(
        lambda: data.annotate(data.frames()), r"1\.xml, contour 1 in a 100x50 picture: .* outside the picture"
    )
    path = lot(tmp_path, space(), tag="annotation")
    refused(partial(read_slots, path), "no slot file of PKLot")


PATCH = "SUNNY/2015-11-12/camera1/S_2015-11-12_00.07_C01_{}.jpg"


@TABLE.row("lists `<patch>")
def test_lists(park):
    lines = (park / "LABELS" / "all.txt").read_text().splitlines()
    expected = read_patches(park / "LABELS" / "all.txt")
    (park / "b.txt.gz").write_bytes(gzip.compress("\r\n".join(lines).encode()))
    rows = [f"01,CNR-EXT/PATCHES/{one.path},{one.label}" for one in expected]
    text = "\n".join(["camera,image_url,occupancy", *rows])
    (park / "c.csv").write_text(text, encoding="utf-8-sig")  # as Excel saves it
    assert len(expected) == 32 and read_patches(park / "b.txt.gz") == read_patches(park / "c.csv") == expected


@TABLE.row("repeated lines; two of one")
def test_repeated(park):
    path = park / "LABELS" / "all.txt"
    text = path.read_text()
    known = f"{PATCH.format(1)} 0\n"
    path.write_text(text + known)
    _, said = heard(lambda: CNRParkEXT(str(park), image_size=64).setup())
    assert re.search(r"1 repeated lines \(such as .*all\.txt, line 33\)", said)
    for line, message in (
        (known.replace(" 0", " 1"), "is both free and busy"),
        (known.replace(" 0", " 2"), "is not `<WEATHER>"),
        (known.replace(" 0", ""), "is not `<WEATHER>"),
    ):
        path.write_text(text + line)
        refused(lambda: read_patches(path), rf"all\.txt, line 33: .*{message}")
    path.write_text(f"camera,image_url\n01,{PATCH.format(1)}\n")
    refused(lambda: read_patches(path), r"all\.txt, line 1: has no column occupancy")


@TABLE.row("patches of CNRPark A")
def test_left_out(park):
    path = park / "LABELS" / "all.txt"
    lines = [line for line in path.read_text().splitlines() if "2015-11-12_02.07_C01" not in line]
    path.write_text("\n".join([*lines, "A/busy/20150703_0805_1.jpg 1", f"{PATCH.format(99)} 1"]))
    Image.new("RGB", (9, 9)).save(
        park / "FULL_IMAGE_100x75" / "SUNNY" / "2015-11-12" / "camera1" / "copy.jpg"
    )
    Image.new("RGB", (150, 150)).save(park / "PATCHES" / PATCH.format(1))
    _, said = heard(lambda: CNRParkEXT(str(park), image_size=64).setup())
    for what in (
        "1 patches of CNRPark A and B",
        "1 labeled slots of which cameraN.csv has no box",
        "1 frames in which no slot is labeled",
        "1 pictures of other names than",
    ):
        assert f"{what}" in said
    (park / "PATCHES" / PATCH.format(99)).write_bytes((park / "PATCHES" / PATCH.format(2)).read_bytes())
    _, said = heard(lambda: CNRParkEXT(str(park), task="patches").setup())
    assert "1 all-black patches" in said and "1 patches of CNRPark A and B" in said


@TABLE.row("`cameraN.csv` without")
def test_cameras(park):
    for text, message in (
        ("SlotId,X,Y,W\n1,2,3,4", "line 1: has no column H"),
        ("SlotId;X;Y;W;H\n1;2;3;4;5", "line 1: has no column"),
        ("SlotId,X,Y,W,H\n1,2,3,4", "line 2: has more or fewer values than the 5 columns"),
        ("SlotId,X,Y,W,H\n1,2,3,4,5,6", "line 2: has more or fewer values than the 5 columns"),
        ("SlotId,X,Y,W,H\n1,2,3,nan,4", "line 2 .*: a number is not finite"),
        ("SlotId,X,Y,W,H\n1,2,3,a,4", "line 2: SlotId, X, Y, W and H must be numbers"),
        ("SlotId,X,Y,W,H\n1,200,300,-50,40", "line 2 .*: the box has a negative width"),
        ("SlotId,X,Y,W,H\n1,200,300,0,40", "line 2: the box has no area"),
        ("SlotId,X,Y,W,H\n1,9200,300,50,40", r"line 2 \(in a 2592x1944 picture\): the box lies outside"),
        ("SlotId,X,Y,W,H\n1,200,300,50,40\n1,300,300,50,40", "line 3: slot 1 has a box already"),
    ):
        (park / "camera1.csv").write_text(text)
        refused(lambda: slot_boxes(park), rf"camera1\.csv, {message}")


def test_every_row_of_the_table_has_a_test():
    assert not TABLE.left
