import warnings

import numpy as np
import pytest
import torch

from lkd.datamodules.detection.frames import collate
from lkd.datamodules.detection.views import Views
from lkd.edge.predict.prepare import MULTIPLE, Preparation, back

from ..files import FRAMES


def entry(height, width, channels=3, **changes):
    return {"name": "x", "shape": ["batch", channels, height, width], **FRAMES, **changes}


def as_trained(image, side):
    """A frame as detection data give it to a module in evaluation."""
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    view = Views(side)(torch.from_numpy(image).permute(2, 0, 1), *nothing)
    sample = {"image": view.image, "view": view.window, "camera": "", "path": ""}
    return collate([sample])["images"].numpy()


@pytest.mark.parametrize("size", [(90, 160), (120, 90), (45, 80), (37, 64)])
def test_frames_are_seen_as_in_training(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    wanted = as_trained(image, 64)
    resize = {**FRAMES["resize"], MULTIPLE: 32}
    free, _ = Preparation(entry("height", "width", resize=resize), "it")(image)
    assert free.shape == wanted.shape and np.abs(free - wanted).max() < 1.6 / 255
    fixed, ratio = Preparation(entry(*wanted.shape[2:]), "it")(image)
    np.testing.assert_array_equal(fixed, free)
    scale = max(size) / 64
    assert ratio == pytest.approx((scale, scale), rel=0.03)


def test_the_next_picture_of_another_size_has_its_own_padding():
    prepare = Preparation(entry(64, 64), "it")
    prepare(np.zeros((64, 64, 3), np.uint8))
    x, _ = prepare(np.zeros((32, 64, 3), np.uint8))
    assert not x[0, :, :32].any() and np.allclose(x[0, :, 32:], 114 / 255)


def test_what_does_not_fit_is_made_smaller_with_a_warning():
    prepare = Preparation(entry(32, 64), "student.onnx")
    with pytest.warns(UserWarning, match=r"takes 32 x 64 pixels .* 64 x 48 .*--input_size=\[64, 64\]"):
        x, ratio = prepare(np.full((64, 48, 3), 255, np.uint8))
    assert ratio == (2.0, 2.0) and x.shape == (1, 3, 32, 64)
    assert (x[0, 0, :, :24] == 1).all() and np.allclose(x[0, 0, :, 24:], 114 / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(np.zeros((30, 64, 3), np.uint8))
        prepare(np.zeros((64, 40, 3), np.uint8))  # once is enough


def test_stretched_gray_and_normalized():
    normal = {"scale": 255.0, "mean": [0.5], "std": [0.5]}
    one = entry(4, 4, 1, resize={"how": "stretch"}, normalization=normal, layout="NCHW, pixels, gray")
    x, ratio = Preparation(one, "it")(np.full((8, 16, 3), 255, np.uint8))
    assert x.shape == (1, 1, 4, 4) and np.allclose(x, 1.0) and ratio == (4.0, 2.0)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    each = {"scale": 255.0, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    x, _ = Preparation(entry(4, 4, resize={"how": "stretch"}, normalization=each), "it")(pixels)
    wanted = (pixels / 255 - each["mean"]) / each["std"]
    np.testing.assert_allclose(x[0].transpose(1, 2, 0), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layout": "NCT"}, "takes 'x' as NCT, and no pictures"),
        ({"normalization": None}, "does not say how its pictures are normalized"),
        ({"normalization": {"scale": 16.0, "mean": [0], "std": [1]}}, "takes pixels from 0 to 16"),
    ],
)
def test_what_takes_no_pictures_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Preparation(entry(4, 4, **changes), "student.onnx")


def test_boxes_come_back_clipped_and_without_those_in_the_padding():
    boxes = np.array([[1, 2, 30, 31], [2, 33, 9, 40]], np.float32)
    found = back(
        {"boxes": boxes, "scores": np.array([0.9, 0.8]), "labels": np.array([0, 1])}, (2.0, 4.0), 120, 50
    )
    assert found["boxes"].tolist() == [[2, 8, 50, 120]] and found["labels"].tolist() == [0]
