import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from lkd.datamodules.detection.views import Views

RED = torch.tensor([250, 10, 10], dtype=torch.uint8)


def scene(box, height=150, width=200):
    """Noise-free gray picture with a red rectangle, and its normalized box."""
    image = torch.full((3, height, width), 90, dtype=torch.uint8)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = RED[:, None, None]
    return image, torch.tensor([[x1 / width, y1 / height, x2 / width, y2 / height]])


def seen_box(image):
    """The rectangle's box, measured in the picture: where red stands out."""
    rows, columns = torch.where(image[0] - image[1] > 0.25)
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("crop", [(1.0, 1.0), (0.6, 0.9)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("color", [0.0, 0.3])
def test_rectangle_stays_in_its_box_in_both_views(crop, flip, color):
    views = Views(120, 320, crop, flip, color, seed=3)
    image, boxes = scene((70, 50, 120, 110))
    found = 0
    for epoch in range(12):
        view = views(image, boxes, torch.tensor([4]), key=(epoch, 0, 0))
        assert view.image.shape == (3, 90, 120) and view.teacher_image.shape == (3, 240, 320)
        if len(view.boxes):
            found += 1
            assert view.labels.tolist() == [4]
            torch.testing.assert_close(view.boxes[0], seen_box(view.image), atol=1.01, rtol=0)
            scaled = view.boxes[0] * (320 / 120)
            torch.testing.assert_close(scaled, seen_box(view.teacher_image), atol=2.01, rtol=0)
    assert found >= 9


def test_flip_mirrors_exactly():
    image = torch.randint(0, 255, (3, 60, 80), generator=torch.Generator().manual_seed(0)).byte()
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    plain, mirrored = Views(80)(image, *none), Views(80, flip=1.0)(image, *none)
    torch.testing.assert_close(mirrored.image, plain.image.flip(-1))
    torch.testing.assert_close(plain.image, image / 255)


def test_teacher_gets_the_best_resolution():
    """One-pixel stripes survive at the frame's own size; from a smaller student's image they could not."""
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, :, ::2] = 255
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    view = Views(16, 64)(image, *none)
    torch.testing.assert_close(view.teacher_image, image / 255)


def test_boxes_mostly_outside_the_crop_are_dropped_and_others_clipped():
    """Boxes on a fine grid: those kept are exactly those with a visible share of at least 30 %."""
    width, height = 200, 150
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0] = torch.arange(width).byte()  # red tells the column, green the row
    image[1] = torch.arange(height).byte()[:, None]
    x, y = torch.meshgrid(torch.arange(0, 180, 7), torch.arange(0, 130, 7), indexing="ij")
    corners = torch.stack([x, y, x + 20, y + 20], -1).reshape(-1, 4).float()
    boxes = corners / torch.tensor([width, height, width, height])
    for seed in range(5):
        view = Views(100, crop=(0.5, 0.5), seed=seed)(image, boxes, torch.arange(len(boxes)))
        assert view.image.shape == (3, 75, 100)
        left, top = round(float(view.image[0, 0, 0]) * 255), round(float(view.image[1, 0, 0]) * 255)
        w = (corners[:, 2].clamp(max=left + 100) - corners[:, 0].clamp(min=left)).clamp(min=0)
        h = (corners[:, 3].clamp(max=top + 75) - corners[:, 1].clamp(min=top)).clamp(min=0)
        share = w * h / 400
        kept = set(view.labels.tolist())  # a share of .3 itself may fall either way
        assert (
            set(torch.where(share > 0.301)[0].tolist()) <= kept <= set(torch.where(share > 0.299)[0].tolist())
        )
        assert 20 < len(kept) < len(boxes) / 2
        assert view.boxes.min() >= 0 and view.boxes[:, 0::2].max() <= 100 and view.boxes[:, 1::2].max() <= 75


def test_same_key_same_view_whatever_the_global_state():
    views = Views(64, crop=(0.5, 1.0), flip=0.5, color=0.4, seed=1)
    image, boxes = scene((70, 50, 120, 110))
    torch.manual_seed(0)
    first = views(image, boxes, torch.tensor([0]), key=(2, 0, 5))
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    second = views(image, boxes, torch.tensor([0]), key=(2, 0, 5))
    assert torch.equal(first.image, second.image) and torch.equal(first.boxes, second.boxes)
    torch.manual_seed(0)
    views(image, boxes, torch.tensor([0]), key=(2, 0, 5))
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing was drawn
    for other in ((3, 0, 5), (2, 1, 5), (2, 0, 6)):
        assert not torch.equal(views(image, boxes, torch.tensor([0]), key=other).image, first.image)


def test_window_tells_where_the_view_lies():
    """Undoing the window by hand brings the view's box back to the frame's."""
    views = Views(200, crop=(0.5, 1.0), flip=0.5)
    image, boxes = scene((80, 60, 110, 90))
    undone = 0
    for epoch in range(10):
        view = views(image, boxes, torch.tensor([0]), key=(epoch,))
        if not len(view.boxes) or view.boxes.min() <= 0 or view.boxes[0, 2] >= 200 or view.boxes[0, 3] >= 150:
            continue  # clipped
        x1, y1, x2, y2, flipped = view.window.tolist()
        left, top, right, bottom = (view.boxes[0] / torch.tensor([200, 150, 200, 150])).tolist()
        if flipped:
            left, right = 1 - right, 1 - left
        w, h = x2 - x1, y2 - y1
        back = torch.tensor([x1 + left * w, y1 + top * h, x1 + right * w, y1 + bottom * h])
        torch.testing.assert_close(back, boxes[0], atol=1e-5, rtol=0)
        undone += 1
    assert undone >= 5


@pytest.mark.parametrize("factor", [1, 3])
def test_another_picture_is_cut_alike(factor):
    """Red tells the column and green the row of the frame: in both pictures, of whatever resolution."""
    height, width = 60 * factor, 80 * factor
    ours, theirs = torch.zeros(3, 60, 80, dtype=torch.uint8), torch.zeros(3, height, width, dtype=torch.uint8)
    for picture, scale in ((ours, 1), (theirs, factor)):
        picture[0] = (torch.arange(picture.shape[2]) // scale).byte()
        picture[1] = (torch.arange(picture.shape[1]) // scale).byte()[:, None]
        picture[2] = 200 * (picture is theirs)
    views = Views(80, 80, crop=(0.3, 1.0), flip=0.5)
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    flips = set()
    for key in range(20):
        view = views(ours, *none, key=(key,), theirs=theirs)
        plain = views(ours, *none, key=(key,))
        assert torch.equal(view.image, plain.image) and torch.equal(view.window, plain.window)
        assert view.teacher_image.shape == view.image.shape and not view.image[2].any()
        assert (view.teacher_image[2] * 255 - 200).abs().max() < 1e-3
        assert (view.teacher_image[:2] - view.image[:2]).abs().max() * 255 < (1e-3 if factor == 1 else 1.01)
        flips.add(bool(view.window[4]))
    assert flips == {False, True}


def test_scales_cover_the_range():
    """The zoom is uniform in the range: measured on a picture whose red tells the column."""
    image = torch.zeros(3, 150, 200, dtype=torch.uint8)
    image[0] = torch.arange(200).byte()
    views = Views(200, crop=(0.5, 1.0))
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    rows = [views(image, *none, key=(k,)).image[0, 0] for k in range(100)]
    spans = [float(row[-1] - row[0]) * 255 / 199 for row in rows]
    assert 0.49 < min(spans) < 0.54 and 0.96 < max(spans) < 1.001 and 0.7 < sum(spans) / 100 < 0.8


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_size": 0},
        {"image_size": 64, "teacher_size": -1},
        {"image_size": 64, "crop": (0.0, 1.0)},
        {"image_size": 64, "crop": (0.9, 0.5)},
        {"image_size": 64, "flip": 1.5},
        {"image_size": 64, "color": -0.1},
        {"image_size": 64, "seed": -1},
    ],
)
def test_bad_arguments(arguments):
    bad = [name for name in arguments if name != "image_size"] or ["image_size"]
    with pytest.raises(ValueError, match=bad[0]):
        Views(**arguments)


def test_views_are_those_of_torchvision_to_the_bit():
    """The same crop, flip, colors and resize by torchvision's own functions."""
    generator = torch.Generator().manual_seed(1)
    picture = torch.randint(0, 256, (90, 120, 3), generator=generator).byte().permute(2, 0, 1)
    corners = torch.rand(12, 2, 2, generator=generator).sort(1).values
    boxes, labels = corners.reshape(-1, 4), torch.arange(12)
    views, flips = Views(48, crop=(0.5, 1.0), flip=0.5, color=0.4, seed=2), set()
    for number in range(12):
        view = views(picture, boxes, labels, (number,))
        scale, down, right, mirror, *jitter = np.random.default_rng([2, number]).random(7).tolist()
        h, w = round((0.5 + 0.5 * scale) * 90), round((0.5 + 0.5 * scale) * 120)
        top, left = int(down * (91 - h)), int(right * (121 - w))
        pixels = boxes * torch.tensor([120, 90, 120, 90])
        moved = F.crop(
            tv_tensors.BoundingBoxes(pixels, format="XYXY", canvas_size=(90, 120)), top, left, h, w
        )
        area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])  # noqa: E731
        keep = (area(moved) >= 0.3 * area(pixels)) & (area(moved) > 0)
        moved, image = tv_tensors.wrap(moved[keep], like=moved), F.crop(picture, top, left, h, w)
        flips.add(mirror < 0.5)
        if mirror < 0.5:
            moved, image = F.horizontal_flip(moved), F.horizontal_flip(image)
        image = F.to_dtype(F.resize(image, [36, 48], antialias=True), torch.float32, scale=True)
        brightness, contrast, saturation = (1 + 0.4 * (2 * each - 1) for each in jitter)
        image = F.adjust_saturation(F.adjust_brightness(image, brightness), saturation)
        assert torch.equal(view.image, ((image - 0.5) * contrast + 0.5).clamp(0, 1))
        assert torch.equal(view.boxes, F.resize(moved, [36, 48]).as_subclass(torch.Tensor))
        assert torch.equal(view.labels, labels[keep])
    assert flips == {True, False}
