import re

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.datamodules import PKLot
from lkd.datamodules.detection.pklot import read_slots

SPACE = '<space id="{}" occupied="{}"><contour>{}</contour></space>'


@pytest.fixture
def lot(tmp_path):
    """Two frames 100x50 of camera lotA: the first with a mask; two busy slots and one free."""
    for folder in ("frames", "bounding_boxes", "masks"):
        (tmp_path / "seq" / folder).mkdir(parents=True)
    points = ['<point x="{}" y="{}" />'.format(*p) for p in ((10, 5), (30, 8), (28, 25), (9, 20))]
    beside = ['<point x="{}" y="{}" />'.format(*p) for p in ((31, 8), (50, 8), (50, 25), (29, 25))]
    xml = SPACE.format(1, 1, "".join(points)) + SPACE.format(2, 1, "".join(beside))
    xml += SPACE.format(3, 0, "".join(points))
    for name in ("2013-02-22_06_25_00", "2013-02-22_06_30_00"):
        Image.new("RGB", (100, 50)).save(tmp_path / "seq" / "frames" / f"{name}.jpg")
        (tmp_path / "seq" / "bounding_boxes" / f"{name}.xml").write_text(
            f'<parking id="lotA">{xml}</parking>'
        )
    mask = np.zeros((50, 100, 3), np.uint8)
    mask[8:20, 12:44] = 1  # two cars that touch
    mask[30:40, 60:80] = 2
    mask[30:40, 80:90] = 1  # another class, so another car
    Image.fromarray(mask).save(tmp_path / "seq" / "masks" / "2013-02-22_06_25_00.png")
    return tmp_path


def test_masks(lot):
    with pytest.warns(UserWarning, match="left out 1 frames without a mask"):
        (frame,) = PKLot(str(lot)).annotate(PKLot(str(lot)).frames())
    pixels = (frame.boxes * torch.tensor([100, 50, 100, 50])).round().long()
    assert sorted(pixels.tolist()) == [[12, 8, 31, 20], [30, 8, 44, 20], [60, 30, 80, 40], [80, 30, 90, 40]]
    assert frame.camera == "lotA" and frame.labels.tolist() == [0, 0, 0, 0]


def test_frames_in_which_cars_cannot_be_told_apart_are_left_out(lot):
    path = next(lot.glob("*/masks/*.png"))
    mask = np.asarray(Image.open(path)).copy()
    mask[28:48, 40:95] = 1  # larger than any slot, and on none
    Image.fromarray(mask).save(path)
    module = PKLot(str(lot))
    with pytest.warns(UserWarning, match="1 frames in which cars touch that stand on no two busy slots"):
        assert module.annotate(module.frames()) == []


def test_masks_that_do_not_fit_are_refused(lot):
    path = next(lot.glob("*/masks/*.png"))
    module = PKLot(str(lot))
    frames = module.frames()
    Image.open(path).resize((50, 25), Image.Resampling.NEAREST).save(path)
    with pytest.raises(ValueError, match="is 50x25, its frame 100x50"):
        module.annotate(frames)
    xml = next(lot.glob("*/*/*_06_25_00.xml"))
    xml.write_text('<parking id="lotA"></parking>')
    Image.new("RGB", (100, 50)).save(path)
    with pytest.raises(ValueError, match=r"06_25_00\.xml has no slot"):
        module.annotate(frames)
    xml.unlink()
    with pytest.raises(FileNotFoundError, match=r"06_25_00\.xml of .* is missing"):
        module.annotate(frames)


def test_slots(lot):
    module = PKLot(str(lot), targets="slots")
    first, second = module.annotate(module.frames())
    torch.testing.assert_close(first.boxes[:1], torch.tensor([[0.09, 0.1, 0.3, 0.5]]))
    assert len(first.boxes) == 2 and first.time < second.time
    next(lot.glob("*/*/*_06_30_00.xml")).unlink()
    with pytest.raises(FileNotFoundError, match=r"06_30_00\.xml of .* is missing"):
        module.annotate(module.frames())


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="targets='boxes'"):
        PKLot(str(tmp_path), targets="boxes")
    with pytest.raises(FileNotFoundError, match="holds no frames"):
        PKLot(str(tmp_path)).frames()


def test_sample_has_800_slots_and_15_labeled_frames(sample):
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
