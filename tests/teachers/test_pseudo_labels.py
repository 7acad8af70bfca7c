"""Pseudo-labels: what is kept, and that carried boxes agree with the data's own, independent geometry."""

import pytest
import torch
from torch import nn

from lkd.datamodules import YoloFolder
from lkd.datamodules.detection.views import Views
from lkd.models import PerCamera
from lkd.teachers import PseudoLabels, Teacher, detect_in_view
from lkd.teachers.pseudo_labels import into_view

from ..roads import oracle, write_roads


def detections(boxes, scores, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = [0] * len(boxes) if labels is None else labels
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": torch.tensor(labels).long()}


def labeled(found, **options):
    """Targets that a teacher with these detections gives a batch of one image."""
    teacher = Teacher(lambda images: [found] * len(images))
    batch = {"images": torch.zeros(1, 3, 64, 64), "sizes": [(64, 64)]}
    (target,) = PseudoLabels(teacher, **options)(batch)["targets"]
    return target


class Copies(nn.Module):
    """A detector of cameras, each of which finds boxes of its own class."""

    def __init__(self):
        super().__init__()
        self.network = PerCamera(nn.Conv2d(3, 1, 1), ["C1", "C2"])

    def forward(self, images):
        raise AssertionError("it is asked by detect")

    def detect(self, images, cameras=None):
        self.network(images, cameras)
        return [detections([[0, 0, 8, 8]], [0.9], [int(camera[1])]) for camera in cameras]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_a_teacher_with_a_copy_per_camera_is_told_whose_images_they_are(batch_size):
    teacher = Teacher(Copies(), batch_size=batch_size)
    batch = {"images": torch.zeros(3, 3, 64, 64), "sizes": [(64, 64)] * 3, "cameras": ["C2", "C1", "C2"]}
    assert [int(t["labels"]) for t in PseudoLabels(teacher)(batch)["targets"]] == [2, 1, 2]

    views = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]] * 3)
    whole = PseudoLabels(
        teacher,
        sees="frame",
        frames=lambda paths: (torch.zeros(len(paths), 3, 64, 64), [(64, 64)] * len(paths)),
    )
    found = whole({**batch, "views": views, "paths": ["a", "b", "c"]})["targets"]
    assert [int(t["labels"]) for t in found] == [2, 1, 2]
    with pytest.raises(ValueError, match="must name the camera of each"):
        PseudoLabels(teacher)({k: v for k, v in batch.items() if k != "cameras"})
    with pytest.raises(ValueError, match="no network for C3"):
        PseudoLabels(teacher)({**batch, "cameras": ["C3"] * 3})


THREE = detections([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]], [0.45, 0.44, 0.9])


@pytest.mark.parametrize(
    ("threshold", "kept"), [(0.45, {0, 40}), (0.46, {40}), (0.0, {0, 20, 40}), (1.0, set())]
)
def test_boxes_from_the_threshold_on_are_kept(threshold, kept):
    target = labeled(THREE, score_threshold=threshold)
    assert set(target["boxes"][:, 0].tolist()) == kept
    assert target.keys() == {"boxes", "labels"}


def test_of_doubled_boxes_the_surer_stays_unless_they_are_of_two_classes():
    # IoU of the first two: 10 * 8 / (10 * 10) = .8
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [30, 30, 40, 40]]
    target = labeled(detections(boxes, [0.6, 0.8, 0.7]))
    assert sorted(target["boxes"].tolist()) == [[0, 0, 10, 8], [30, 30, 40, 40]]
    assert len(labeled(detections(boxes, [0.6, 0.8, 0.7]), iou_threshold=0.81)["boxes"]) == 3
    two = labeled(detections(boxes, [0.6, 0.8, 0.7], [0, 1, 0]))
    assert len(two["boxes"]) == 3
    pairs = {
        (row[3], label) for row, label in zip(two["boxes"].tolist(), two["labels"].tolist(), strict=True)
    }
    assert pairs == {(10, 0), (8, 1), (40, 0)}  # a box keeps its class


@pytest.mark.parametrize("found", [detections([], []), detections([[0, 0, 5, 5]], [0.1])])
@pytest.mark.parametrize("sees", ["batch", "frame"])
def test_a_teacher_that_finds_nothing_gives_empty_targets_of_the_right_shape(found, sees):
    teacher = Teacher(lambda images: [found] * len(images))
    batch = {"images": torch.zeros(2, 3, 64, 64), "sizes": [(64, 64)] * 2, "paths": ["a", "b"]}
    batch["views"] = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0]] * 2)
    labels = PseudoLabels(
        teacher, sees=sees, frames=lambda paths: (torch.zeros(len(paths), 3, 64, 64), [(64, 64)] * len(paths))
    )
    for target in labels(batch)["targets"]:
        assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
        assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64


def test_soft_labels_carry_the_scores_of_what_is_kept():
    target = labeled(THREE, soft=True)
    pairs = dict(zip(target["boxes"][:, 0].tolist(), target["scores"].tolist(), strict=True))
    assert pairs == pytest.approx({0: 0.45, 40: 0.9})


def test_labels_of_the_annotator_are_replaced_and_the_batch_is_left_alone():
    truth = [{"boxes": torch.tensor([[1.0, 1.0, 2.0, 2.0]]), "labels": torch.tensor([7])}]
    batch = {"images": torch.zeros(1, 3, 64, 64), "sizes": [(64, 64)], "targets": truth, "more": "kept"}
    new = PseudoLabels(Teacher(lambda images: [THREE]))(batch)
    assert batch["targets"] is truth
    assert 7 not in new["targets"][0]["labels"]
    assert new["more"] == "kept" and new["images"] is batch["images"]


def test_boxes_seen_at_the_teachers_resolution_are_scaled_to_the_students():
    seen = []

    def teacher(images):
        seen.append(tuple(images.shape))
        return [detections([[30, 40, 60, 80]], [0.9]), detections([], [])]

    batch = {
        "images": torch.zeros(2, 3, 64, 96),
        "sizes": [(48, 80), (64, 96)],
        "teacher_images": torch.zeros(2, 3, 160, 256),
        "teacher_sizes": [(144, 240), (160, 256)],
    }
    first, second = detect_in_view(Teacher(teacher), batch)
    assert seen == [(2, 3, 160, 256)]
    torch.testing.assert_close(first["boxes"], torch.tensor([[10.0, 40 / 3, 20.0, 80 / 3]]))
    assert first["scores"].tolist() == pytest.approx([0.9])
    assert second["boxes"].shape == (0, 4)


@pytest.mark.parametrize("size", [(150, 200), (333, 97)])
def test_carried_boxes_agree_with_the_boxes_that_the_data_carries(size):
    """200 random views (crops, flips) of random boxes; `Views` moves boxes by torchvision, not by lkd."""
    generator = torch.Generator().manual_seed(4)
    image = torch.zeros(3, *size, dtype=torch.uint8)
    views = Views(640, crop=(0.3, 1.0), flip=0.5, seed=7)
    flipped, dropped, clipped = 0, 0, 0
    for key in range(200):
        corner = torch.rand(12, 2, generator=generator) * 0.9
        side = torch.rand(12, 2, generator=generator) * 0.4 + 0.02
        boxes = torch.cat([corner, (corner + side).clamp(max=1)], 1)
        view = views(image, boxes, torch.arange(12), key=(key,))
        ours = into_view({"boxes": boxes, "labels": torch.arange(12)}, view.window, view.image.shape[-2:])
        assert ours["labels"].tolist() == view.labels.tolist()
        torch.testing.assert_close(ours["boxes"], view.boxes, atol=1e-3, rtol=0)
        flipped += int(view.window[4])
        dropped += 12 - len(view.labels)
        clipped += int((view.boxes[:, :2] == 0).any())
    assert 60 < flipped < 140 and dropped > 200 and clipped > 50  # the cases did occur


def test_boxes_without_area_are_dropped():
    found = {"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.7], [0.2, 0.2, 0.4, 0.4]]), "labels": torch.arange(2)}
    assert into_view(found, torch.tensor([0.0, 0, 1, 1, 0]), (10, 10))["labels"].tolist() == [1]


def test_each_frame_is_seen_once_in_several_epochs_and_its_boxes_follow_every_view(tmp_path):
    """The labels carried from whole frames against the annotator's in the same views, in pixels."""
    root = write_roads(tmp_path, count=5, size=(90, 120))
    data = YoloFolder(
        str(root), image_size=120, teacher_size=240, batch_size=2, fractions=(1.0, 0.0, 0.0), crop=(0.4, 1.0)
    )
    data.setup("fit")
    load, asked, forwards = data.serve_whole_frames(), [], []

    def frames(paths):
        asked.extend(paths)
        return load(paths)

    def teacher(images):
        forwards.append(tuple(images.shape))
        return oracle(images)

    labels = PseudoLabels(Teacher(teacher), sees="frame", frames=frames)
    loader, flips, compared = data.train_dataloader(), 0, 0
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert "teacher_images" not in batch
            for target, truth in zip(labels(batch)["targets"], batch["targets"], strict=True):
                order = [t["boxes"][:, 0].argsort() for t in (target, truth)]
                # the oracle measures whole pixels, halves of the frame's, in views up to 2.5 times as large
                torch.testing.assert_close(
                    target["boxes"][order[0]], truth["boxes"][order[1]], atol=1.0, rtol=0
                )
                compared += len(truth["boxes"])
            flips += int(batch["views"][:, 4].sum())
    assert sorted(asked) == sorted({str(f.path) for f in data.splits.train})
    assert sum(shape[0] for shape in forwards) == 10
    assert {shape[1:] for shape in forwards} == {(3, 192, 256)}  # 180 x 240, padded
    assert 5 < flips < 25 and compared > 20


def test_boxes_of_a_frame_do_not_depend_on_its_padding():
    """The frame's own size, not the padded one, is what fractions are taken of."""
    teacher = Teacher(lambda images: [detections([[60, 45, 120, 90]], [0.9])])
    labels = PseudoLabels(
        teacher, sees="frame", frames=lambda paths: (torch.zeros(1, 3, 96, 128), [(90, 120)])
    )
    batch = {"images": torch.zeros(1, 3, 32, 64), "sizes": [(30, 40)], "paths": ["x"]}
    batch["views"] = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]])
    torch.testing.assert_close(labels(batch)["targets"][0]["boxes"], torch.tensor([[20.0, 15.0, 40.0, 30.0]]))


@pytest.mark.parametrize("name", ["score_threshold", "iou_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_bad_thresholds(name, value):
    with pytest.raises(ValueError, match=rf"{name}={value} must be in \[0, 1\]"):
        PseudoLabels(Teacher(oracle), **{name: value})


def test_bad_source_of_frames():
    with pytest.raises(ValueError, match=r"sees='video' must be 'batch' or 'frame'"):
        PseudoLabels(Teacher(oracle), sees="video")
    with pytest.raises(ValueError, match="sees='frame' needs frames"):
        PseudoLabels(Teacher(oracle), sees="frame")({"images": torch.zeros(1, 3, 32, 32), "paths": ["a"]})
