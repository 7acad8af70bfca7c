"""Which pictures and texts are read: the rows of docs/data.md that are of all readers."""

import gzip
import re
import tarfile

import numpy as np
from PIL import Image

from lkd.datamodules import ImageFolderData, PKLot, RGBThermalFolder, YoloFolder
from lkd.datamodules.io.pictures import read_image
from lkd.pictures import image_size
from lkd.slot_labels import read_patches
from lkd.text_files import read_rows

from ..tables import (
    Table,
    folder,
    heard,
    pair,
    picture,
    read,
    refused,
    turned,
)

TABLE = Table("Pictures", "Text")


@TABLE.row("`.jpg .jpeg .jfif")
def test_formats(tmp_path):
    for suffix in (".jpg .jpeg .jfif .mpo .png .webp .bmp .tif .tiff .avif .JPG .PNG .Webp").split():
        kind = {".jfif": "JPEG", ".mpo": "JPEG"}.get(suffix.lower())
        picture(tmp_path / "images" / f"cam_{suffix[1:]}{len(suffix)}{suffix}", format=kind)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"cam_{suffix[1:]}{len(suffix)}.txt").write_text("")
    data = YoloFolder(str(tmp_path), image_size=32, fractions=(1.0, 0.0, 0.0))
    frames, said = heard(data.frames)
    assert len(frames) == 13 and not said
    data.setup("fit")
    assert sum(len(batch["images"]) for batch in data.train_dataloader()) == 13


@TABLE.row("other files among them")
def test_other_files(tmp_path):
    folder(tmp_path)
    for name in ("cam_7.heic", "cam_8.HEIC", "cam_9.gif"):
        (tmp_path / "images" / name).write_bytes(b"x")
    data = YoloFolder(str(tmp_path))
    frames, said = heard(lambda: [data.frames(), data.frames()][0])
    assert len(frames) == 4
    assert re.search(r"1 files with the suffix \.heic, which is not read \(such as .*cam_7\.heic\)", said)
    assert "1 files with the suffix .gif" in said and said.count("left out") == 1  # said once
    for part in ("train", "test"):
        picture(tmp_path / "set" / part / "cat" / "1.png")
    (tmp_path / "set" / "train" / "cat" / "2.heic").write_bytes(b"x")
    _, said = heard(ImageFolderData(str(tmp_path / "set"), val=0).setup)
    assert "1 files with the suffix .heic" in said


@TABLE.row("hidden files and folders")
def test_hidden(tmp_path):
    folder(tmp_path)
    (tmp_path / "images" / ".cache").mkdir()
    for name in ("._cam_0.png", ".DS_Store", "Thumbs.db", ".cache/cam_9.png"):
        (tmp_path / "images" / name).write_bytes(b"\0")
    assert (
        read(tmp_path) == ([[0.4, 0.4, 0.6, 0.6]], [0], "") and len(YoloFolder(str(tmp_path)).frames()) == 4
    )
    for path in ("train/cat/1.png", "test/cat/1.png"):
        picture(tmp_path / "set" / path)
        for junk in (f"__MACOSX/{path}", f".ipynb_checkpoints/{path}", path.replace("1.png", "._1.png")):
            (tmp_path / "set" / junk).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / junk).write_bytes(b"\0")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "set", arcname=".")
    for place in ("set", "set.tar"):
        data = ImageFolderData(str(tmp_path / place), val=0)
        data.setup()
        assert data.classes == ["cat"] and len(data.datasets["train"]) == 1
    visible = {"visible": "rgb/{frame}.png", "thermal": "ir/{frame}.png", "camera": "c"}
    for name in ("1.png", "._1.png"):
        for sensor in ("rgb", "ir"):
            picture(tmp_path / sensor / name)
    assert len(RGBThermalFolder(str(tmp_path), **visible).frames()) == 1
    lot = tmp_path / "lot" / "seq" / "frames"
    picture(lot / "1.png")
    (lot / "._1.png").write_bytes(b"\0")
    assert len(PKLot(str(tmp_path / "lot")).frames()) == 1


@TABLE.row("an orientation in the file")
def test_orientation(tmp_path):
    folder(tmp_path, "0 0.5 0.25 1 0.5\n", count=1)
    turned(tmp_path / "images" / "cam_0.png")
    data = YoloFolder(str(tmp_path), image_size=40, fractions=(0.0, 0.0, 1.0))
    data.setup("test")
    sample = data.datasets["test"][0]
    assert sample["image"].shape == (3, 20, 40)
    x1, y1, x2, y2 = sample["target"]["boxes"][0].long().tolist()
    assert (x1, y1, x2, y2) == (0, 0, 40, 10)  # the label is of the upright picture's white half
    assert sample["image"][:, y1:y2, x1:x2].min() > 0.9 and sample["image"][:, y2:].max() < 0.1
    for part in ("train", "test"):
        turned(tmp_path / "set" / part / "cat" / "1.jpg")
    images = ImageFolderData(str(tmp_path / "set"), val=0)
    images.setup()
    x, _ = images.datasets["train"][0]
    assert x.shape == (3, 20, 40) and x[:, :8].min() > 0.9 and x[:, 12:].max() < 0.1


@TABLE.row("gray, palette, transparent")
def test_modes(tmp_path):
    folder(tmp_path, count=1)
    base = Image.effect_noise((64, 48), 60)
    for mode, suffix in (
        ("L", "png"),
        ("P", "png"),
        ("1", "png"),
        ("LA", "png"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
    ):
        for old in (tmp_path / "images").iterdir():
            old.unlink()
        base.convert("RGB").convert(mode).save(tmp_path / "images" / f"cam_0.{suffix}")
        data = YoloFolder(str(tmp_path), fractions=(0.0, 0.0, 1.0))
        data.setup("test")
        assert data.datasets["test"][0]["image"].shape == (3, 480, 640)
    (tmp_path / "images" / "cam_0.jpg").unlink()
    pages = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "images" / "cam_0.tif", save_all=True, append_images=pages[1:])
    data = YoloFolder(str(tmp_path), fractions=(0.0, 0.0, 1.0))
    data.setup("test")
    assert data.datasets["test"][0]["image"][:, 5, 5].tolist() == [1, 0, 0]


@TABLE.row("more than 8 bits a channel")
def test_deep(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "set" / part / "cat").mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 9000, np.uint16)).save(tmp_path / "set" / part / "cat" / "1.png")
    refused(
        ImageFolderData(str(tmp_path / "set"), val=0).setup, r"cat/1\.png in .* more than 8 bits a channel"
    )
    folder(tmp_path, count=1)
    Image.fromarray(np.full((8, 8), 9000, np.uint16)).save(tmp_path / "images" / "cam_0.png")
    data = YoloFolder(str(tmp_path), fractions=(0.0, 0.0, 1.0))
    data.setup("test")
    refused(lambda: data.datasets["test"][0], r"cam_0\.png has more than 8 bits a channel")


@TABLE.row("truncated, empty, no picture")
def test_broken(tmp_path):
    folder(tmp_path, count=1)
    path, whole = tmp_path / "images" / "cam_0.png", (tmp_path / "images" / "cam_0.png").read_bytes()
    data = YoloFolder(str(tmp_path), fractions=(0.0, 0.0, 1.0))
    data.setup("test")
    for content in (whole[:60], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        refused(lambda: data.datasets["test"][0], r"cam_0\.png is damaged")
    path.unlink()
    refused(lambda: data.datasets["test"][0], r"cam_0\.png is missing", FileNotFoundError)


@TABLE.row("more pixels than Pillow")
def test_too_large(tmp_path, monkeypatch):
    folder(tmp_path, count=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # a picture has 3072
    message = (
        r"cam_0\.png has too many pixels to be opened, .*: make it smaller, or, if you trust it, raise PIL"
    )
    refused(lambda: read_image(tmp_path / "images" / "cam_0.png"), message)
    refused(lambda: image_size(tmp_path / "images" / "cam_0.png"), message)


@TABLE.row("links to files and folders")
def test_links(tmp_path):
    folder(tmp_path / "real")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "train").symlink_to(tmp_path / "real" / "images")
    (tmp_path / "labels" / "train").symlink_to(tmp_path / "real" / "labels")
    (tmp_path / "images" / "round").symlink_to(tmp_path / "images")  # leads back: not followed
    assert read(tmp_path)[0] == [[0.4, 0.4, 0.6, 0.6]] and len(YoloFolder(str(tmp_path)).frames()) == 4


@TABLE.row("UTF-8 with or without")
def test_encodings(tmp_path):
    for number, text in enumerate(
        ("0\t.5  .5 .2 .2\r\n\r\n1 .5 .5 .4 .4\r\n", "\n0 .5 .5 .2 .2\n1 .5 .5 .4 .4")
    ):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            place = folder(tmp_path / f"{number}{encoding}", text.encode(encoding))
            assert read(place) == ([[0.4, 0.4, 0.6, 0.6], [0.3, 0.3, 0.7, 0.7]], [0, 1], "")
    (tmp_path / "all.txt").write_text(
        "\ufeffSUNNY/2015-11-12/camera1/S_2015-11-12_07.09_C01_184.jpg 1\r\n", encoding="utf-8"
    )
    assert read_patches(tmp_path / "all.txt")[0].label == 1


@TABLE.row("other encodings")
def test_latin(tmp_path):
    folder(tmp_path, "0 .5 .5 .2 .2\n0 .5 .5 .2 .2 # café\n".encode("latin-1"))
    refused(lambda: read(tmp_path), r"cam_0\.txt, line 2: is not text in UTF-8")
    (tmp_path / "all.txt").write_bytes(b"SUNNY/caf\xe9 0\n")
    refused(lambda: read_patches(tmp_path / "all.txt"), r"all\.txt, line 1: is not text in UTF-8")
    (tmp_path / "executions.csv").write_bytes(b"a,b\n1,2,\n1,caf\xe9\n")
    refused(
        lambda: list(read_rows(tmp_path / "executions.csv", "a")),
        r"executions\.csv, line 3: is not text in UTF-8",
    )
    for text, message in (
        ("a,b\n1\n", "line 2: has more or fewer"),
        ("a;b\n", "line 1: has no column a, but"),
    ):
        (tmp_path / "executions.csv").write_text(text)
        refused(lambda: list(read_rows(tmp_path / "executions.csv", "a")), rf"executions\.csv, {message}")
    (tmp_path / "all.txt.gz").write_bytes(gzip.compress(b"text")[:-4])
    refused(lambda: read_patches(tmp_path / "all.txt.gz"), r"all\.txt\.gz is damaged")
    xml = b'<?xml version="1.0" encoding="nowhere"?><annotation></annotation>'
    pair(tmp_path, "<annotation></annotation>")
    (tmp_path / "labels" / "0.xml").write_bytes(xml)
    data = RGBThermalFolder(
        str(tmp_path),
        visible="rgb/{frame}.png",
        thermal="ir/{frame}.png",
        labels="labels/{frame}.xml",
        camera="c",
    )
    refused(lambda: data.annotate(data.frames()), r"0\.xml is damaged")


def test_every_row_of_the_table_has_a_test():
    assert not TABLE.left
