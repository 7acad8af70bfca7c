from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lkd.edge.offload.payload import Payload


def scene(height=48, width=64, channels=3):
    """Smooth, with some noise: what codecs are made for."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, channels))
    return (100 + x[..., None] + y[..., None] + noise).clip(0, 255).astype(np.uint8)


def test_png_is_what_was_sent():
    image = scene()
    seen, size = Payload("png").sent(image)
    np.testing.assert_array_equal(seen, image)
    assert size == len(Payload("png").encode(image))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_the_server_sees_what_pillow_decodes_and_not_the_file(format):
    image = scene()
    payload = Payload(format, 50)
    seen, size = payload.sent(image)
    file = payload.encode(image)
    with Image.open(BytesIO(file)) as decoded:
        assert decoded.format == format.upper()
        np.testing.assert_array_equal(seen, np.asarray(decoded.convert("RGB")))
    assert size == len(file)
    off = np.abs(seen.astype(int) - image).mean()
    assert 0 < off < 15


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_quality_costs_bytes_and_gives_likeness(format):
    image = scene()
    sent = [Payload(format, quality).sent(image) for quality in (10, 50, 95)]
    sizes = [size for _, size in sent]
    errors = [np.abs(seen.astype(int) - image).mean() for seen, _ in sent]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert errors == sorted(errors, reverse=True)


def test_default_qualities():
    image = scene()
    assert Payload("jpeg").encode(image) == Payload("jpeg", 80).encode(image)
    assert Payload().encode(image) == Payload("webp", 70).encode(image)


@pytest.mark.parametrize(
    ("side", "shape"), [(32, (24, 32, 3)), (64, (48, 64, 3)), (500, (48, 64, 3)), (1, (1, 1, 3))]
)
def test_the_longest_side_is_only_ever_reduced(side, shape):
    assert Payload("png", side=side).sent(scene())[0].shape == shape


def test_an_upright_picture_is_reduced_by_its_height():
    assert Payload("png", side=32).sent(scene(64, 48))[0].shape == (32, 24, 3)


@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_gray_stays_gray(format):
    seen, _ = Payload(format, side=20).sent(scene(channels=1))
    assert seen.shape == (15, 20, 1) and seen.dtype == np.uint8
    if format == "png":
        image = scene(channels=1)
        np.testing.assert_array_equal(Payload("png").sent(image)[0], image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "jpg"}, "format='jpg' must be 'jpeg', 'webp' or 'png'"),
        ({"quality": 0}, "quality=0 must be in .1, 100."),
        ({"quality": 101}, "quality=101 must be in"),
        ({"format": "png", "quality": 50}, "png keeps every pixel"),
        ({"side": 0}, "side=0 must be 1 or more"),
    ],
)
def test_refuses_what_no_codec_knows(arguments, message):
    with pytest.raises(ValueError, match=message):
        Payload(**arguments)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_refuses_what_is_no_picture(image):
    with pytest.raises(ValueError, match="a payload takes uint8 of shape"):
        Payload().sent(image)


def test_refuses_a_picture_longer_than_the_format_can_say():
    strip = np.zeros((1, 16384, 3), np.uint8)
    with pytest.raises(ValueError, match="16384 x 1 pixels is too long for webp, which ends at 16383"):
        Payload("webp").encode(strip)
    assert Payload("webp", side=16383).sent(strip)[0].shape == (1, 16383, 3)


def test_parts_have_the_scale_of_the_whole_picture():
    image, payload = scene(60, 80), Payload("png", side=40)
    whole = payload.sent(image)[0]
    part = payload.of_part(60, 80).sent(np.ascontiguousarray(image[:, 40:]))[0]
    assert whole.shape == (30, 40, 3) and part.shape == (30, 20, 3)
