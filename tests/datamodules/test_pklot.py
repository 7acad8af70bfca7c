import re

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.datamodules import PKLot
from lkd.datamodules.pklot import mask_boxes, read_slots

SPACE = '<space id="{}" occupied="{}"><contour>{}</contour></space>'


@pytest.fixture
def lot(tmp_path):
    """Two frames 100x50 of camera lotA: the first with a mask, one busy slot and one free."""
    for folder in ("frames", "bounding_boxes", "masks"):
        (tmp_path / "seq" / folder).mkdir(parents=True)
    points = ['<point x="{}" y="{}" />'.format(*p) for p in ((10, 5), (30, 8), (28, 25), (9, 20))]
    xml = SPACE.format(1, 1, "".join(points)) + SPACE.format(2, 0, "".join(points))
    for name in ("2013-02-22_06_25_00", "2013-02-22_06_30_00"):
        Image.new("RGB", (100, 50)).save(tmp_path / "seq" / "frames" / f"{name}.jpg")
        (tmp_path / "seq" / "bounding_boxes" / f"{name}.xml").write_text(
            f'<parking id="lotA">{xml}</parking>'
        )
    mask = np.zeros((50, 100, 3), np.uint8)
    mask[10:20, 20:40] = 1
    mask[20:24, 40:44] = 1  # touches the first at a corner: the same component
    mask[30:40, 60:80] = 2
    mask[30:40, 80:90] = 1  # another class, so another car
    Image.fromarray(mask).save(tmp_path / "seq" / "masks" / "2013-02-22_06_25_00.png")
    return tmp_path


def test_masks(lot):
    (frame,) = PKLot(str(lot)).annotate(PKLot(str(lot)).frames())
    pixels = (frame.boxes * torch.tensor([100, 50, 100, 50])).round().long()
    assert sorted(pixels.tolist()) == [[20, 10, 44, 24], [60, 30, 80, 40], [80, 30, 90, 40]]
    assert frame.camera == "lotA" and frame.labels.tolist() == [0, 0, 0]


def test_slots(lot):
    module = PKLot(str(lot), targets="slots")
    first, second = module.annotate(module.frames())
    torch.testing.assert_close(first.boxes, torch.tensor([[0.09, 0.1, 0.3, 0.5]]))
    assert first.time < second.time
    next(lot.glob("*/*/*_06_30_00.xml")).unlink()
    with pytest.raises(FileNotFoundError, match=r"06_30_00\.xml of .* is missing"):
        module.annotate(module.frames())


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="targets='boxes'"):
        PKLot(str(tmp_path), targets="boxes")
    with pytest.raises(FileNotFoundError, match="holds no frames"):
        PKLot(str(tmp_path)).frames()


def test_sample_has_800_slots_and_15_labelled_frames(sample):
    root = sample("pklot")
    slots = [busy for path in root.glob("*/bounding_boxes/*.xml") for _, busy in read_slots(path)]
    assert (len(slots), slots.count(False), slots.count(True)) == (800, 701, 99)
    module = PKLot(str(root))
    frames = module.frames()
    assert len(frames) == 20 and {frame.camera for frame in frames} == {"ufpr05"}
    assert len(module.annotate(frames)) == 15
    busy = PKLot(str(root), targets="slots").annotate(frames)
    assert len(busy) == 20 and sum(len(frame.boxes) for frame in busy) == 99
    # an independent reading of the XML: occupied slots by plain text search
    texts = [path.read_text() for path in root.glob("*/bounding_boxes/*.xml")]
    assert sum(len(re.findall(r'occupied="1"', text)) for text in texts) == 99


def test_mask_boxes_of_the_sample_cover_the_mask_exactly(sample):
    """Painting the boxes covers every car pixel, and each box touches the mask on its four sides."""
    total = 0
    for path in sorted(sample("pklot").glob("*/masks/*.png")):
        mask = np.asarray(Image.open(path).convert("RGB"))[..., 0] > 0
        covered = np.zeros_like(mask)
        height, width = mask.shape
        boxes = (mask_boxes(path) * torch.tensor([width, height, width, height])).round().long().tolist()
        total += len(boxes)
        for x1, y1, x2, y2 in boxes:
            covered[y1:y2, x1:x2] = True
            part = mask[y1:y2, x1:x2]
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
        assert not (mask & ~covered).any()
    assert total == 103  # 99 busy slots: some cars touch, some are cut in two, one stands elsewhere
