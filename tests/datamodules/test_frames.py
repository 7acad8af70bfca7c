from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lkd.datamodules.detection.frames import GRAY, CameraFrame, FrameDataset, collate
from lkd.datamodules.detection.views import Views
from lkd.datamodules.samples.samplers import Key


def frame(path, boxes=((0.0, 0.0, 0.5, 0.5),), camera="C1"):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return CameraFrame(path, camera, "1", boxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.int64))


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (80, 60), (255, 0, 0)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_boxes_are_clipped_and_degenerate_ones_counted(picture):
    boxes = [(-0.5, -0.5, 0.5, 0.5), (0.5, 0.1, 0.5, 0.9)]
    said = r"left out 1 parts of boxes beyond the picture's edge \(such as .*a\.png\), 1 boxes without area \(such as .*a\.png\)"
    with pytest.warns(UserWarning, match=said):
        dataset = FrameDataset([frame(picture, boxes)], Views(80))
    assert dataset[0]["target"]["boxes"].tolist() == [[0, 0, 40, 30]]
    assert dataset[0]["target"]["labels"].tolist() == [0]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10.0, 20.0, 40.0, 50.0), "outside the picture"),  # in pixels: clipped they would vanish
        ((1.2, 0.0, 1.4, 1.0), "outside the picture"),
        ((0.9, 0.9, 0.1, 0.1), "negative width or height"),
    ],
)
def test_wrong_boxes_are_refused_before_anything_is_loaded(picture, box, message):
    with pytest.raises(ValueError, match=rf"a\.png, box 1 \(x1, y1, x2, y2 as shares.*{message}"):
        FrameDataset([frame(picture, [(0.0, 0.0, 0.5, 0.5), box])], Views(80))
    assert len(FrameDataset([frame(picture, [box])], Views(80), labeled=False)) == 1


def test_frame_without_objects(picture):
    target = FrameDataset([frame(picture, [])], Views(80))[0]["target"]
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64


def test_batch_is_padded_with_gray_at_the_bottom_and_right(picture, tmp_path):
    Image.new("RGB", (40, 80), (0, 0, 255)).save(tmp_path / "b.png")
    batch = collate(
        FrameDataset([frame(picture), frame(tmp_path / "b.png", [], "C2")], Views(70, 140))[
            [Key(0, 0, 0), Key(0, 0, 1)]
        ]
    )
    assert batch["images"].shape == (2, 3, 96, 96) and batch["sizes"] == [(52, 70), (70, 35)]
    assert batch["teacher_images"].shape == (2, 3, 160, 160) and batch["teacher_sizes"] == [
        (105, 140),
        (140, 70),
    ]
    first, second = batch["images"]
    assert torch.equal(first[:, :52, :70], torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 52, 70))
    assert (
        (first[:, 52:] == GRAY).all()
        and (first[:, :, 70:] == GRAY).all()
        and (second[:, :, 35:] == GRAY).all()
    )
    assert batch["cameras"] == ["C1", "C2"] and batch["paths"] == [str(picture), str(tmp_path / "b.png")]
    assert [len(target["boxes"]) for target in batch["targets"]] == [1, 0]


def test_no_targets_when_unlabeled(picture):
    batch = collate([FrameDataset([CameraFrame(picture, "C1", "1")], Views(64), labeled=False)[0]])
    assert set(batch) == {"images", "sizes", "views", "cameras", "paths"}


def test_labels_needed_but_missing(picture):
    with pytest.raises(ValueError, match=r"a\.png has no labels"):
        FrameDataset([CameraFrame(picture, "C1", "1")], Views(64))


@pytest.mark.parametrize("teacher_size", [None, 160])
def test_a_teacher_may_see_another_file(picture, tmp_path, teacher_size):
    """It is read only where there is a teacher's size."""
    ours = replace(frame(picture), teacher_path=tmp_path / "blue.png")
    dataset = FrameDataset([ours], Views(80, teacher_size))
    if teacher_size is None:
        return dataset[0]
    with pytest.raises(FileNotFoundError, match=r"blue\.png is missing"):
        dataset[0]
    Image.new("RGB", (80, 60), (0, 0, 255)).save(tmp_path / "blue.png")
    sample = dataset[0]
    assert sample["path"] == str(picture) and sample["image"].amax((1, 2)).tolist() == [1, 0, 0]
    assert sample["teacher_image"].amax((1, 2)).tolist() == [0, 0, 1]
    assert sample["teacher_image"].shape == (3, 120, 160)


@pytest.mark.parametrize("boxes", [[(0.0, 0.0, float("nan"), 1.0)], [(0.0, 0.0, float("inf"), 1.0)]])
def test_boxes_that_are_not_finite(picture, boxes):
    with pytest.raises(ValueError, match="must be finite"):
        FrameDataset([frame(picture, boxes)], Views(64))[0]


def test_frames_are_streamed():
    """A data set of files that do not exist is no error until one is read."""
    dataset = FrameDataset([frame(Path("nowhere.jpg"))] * 1000, Views(64))
    assert len(dataset) == 1000
    with pytest.raises(FileNotFoundError, match="nowhere"):
        dataset[999]
