import io

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.datamodules.io.pictures import decode, read_image
from lkd.pictures import image_size

STORED = {  # how an upright picture lies in the file, by the EXIF orientation (TIFF 6.0, tag 274)
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg", "avif"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_upright(tmp_path, suffix, orientation):
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    upright = corners.repeat(16, 0).repeat(24, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    kind = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix in ("jpg", "avif") else {}
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **kind)
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.shape == (3, 32, 48) and image_size(tmp_path / f"a.{suffix}") == (48, 32)
    for (y, x), color in zip(((6, 8), (6, 40), (26, 8), (26, 40)), corners.reshape(4, 3), strict=True):
        assert np.abs(pixels[:, y, x].numpy().astype(int) - color).max() < 60


def test_a_broken_exif_block_says_nothing(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    assert read_image(tmp_path / "a.jpg").shape == (3, 20, 40) and image_size(tmp_path / "a.jpg") == (40, 20)


@pytest.mark.parametrize(("suffix", "mode"), [("png", "I;16"), ("tif", "I;16"), ("tif", "F"), ("tif", "I")])
def test_deep_gray_pictures_are_refused(tmp_path, suffix, mode):
    Image.new(mode, (4, 4)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        read_image(tmp_path / f"a.{suffix}")


def test_deep_colors_are_refused():
    """Pillow would drop their lower 8 bits: a camera of 12 bits would be nearly black."""
    cv2 = pytest.importorskip("cv2")
    for suffix in (".png", ".tif"):
        for channels in (3, 4):
            done, data = cv2.imencode(suffix, np.full((8, 8, channels), 3000, np.uint16))
            assert done
            with pytest.raises(ValueError, match="the image x has more than 8 bits a channel"):
                decode(io.BytesIO(data.tobytes()), "x")
        done, data = cv2.imencode(suffix, np.full((8, 8, 3), 200, np.uint8))
        assert torch.equal(decode(io.BytesIO(data.tobytes()), "x"), torch.full((3, 8, 8), 200).byte())


def test_size_of_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.jpg is damaged and cannot be opened"):
        image_size(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"b\.jpg is missing"):
        image_size(tmp_path / "b.jpg")


def test_more_pixels_than_pillow_opens_are_named(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a\.png .*exceeds limit"):
        read_image(tmp_path / "a.png")


def test_damaged_and_missing_images_are_named(tmp_path):
    (tmp_path / "noise.jpg").write_bytes(b"not a picture")
    Image.effect_noise((200, 200), 50).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:3000])
    for name in ("noise.jpg", "half.jpg"):
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg is missing"):
        read_image(tmp_path / "gone.jpg")


def test_gray_pictures_become_rgb(tmp_path):
    Image.new("L", (8, 6), 100).save(tmp_path / "gray.png")
    assert read_image(tmp_path / "gray.png").shape == (3, 6, 8)


def test_deep_pictures_are_refused(tmp_path):
    """Raw thermal pictures often have 16 bits; as RGB nearly all of it would be white."""
    Image.fromarray(np.full((4, 4), 20000, dtype=np.uint16)).save(tmp_path / "raw.png")
    with pytest.raises(ValueError, match=r"raw\.png has more than 8 bits a channel: scale it to 8 bits"):
        read_image(tmp_path / "raw.png")
    with pytest.raises(ValueError, match=r"raw\.png has more than 8 bits a channel"):
        read_image(tmp_path / "raw.png", "L")
