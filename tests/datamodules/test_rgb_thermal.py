"""Pairs of visible and thermal frames: matching, labels, splits, and one view for both; then a teacher who sees the other."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.datamodules import FederatedDataModule, Natural, RGBThermalFolder

from ..detectors import fcos, needs_yolo
from ..pairs import KAIST, pictures, save, voc, write_kaist, write_llvip
from ..roads import oracle


@pytest.fixture(scope="module")
def llvip(tmp_path_factory):
    root = tmp_path_factory.mktemp("llvip")
    return root, write_llvip(root)


def ready(root, stage=None, **kwargs):
    defaults = {"image_size": 128, "batch_size": 2, "fractions": (0.5, 0.25, 0.25), "color": 0.0}
    data = RGBThermalFolder(str(root), **(defaults | kwargs))
    data.prepare_data()
    data.setup(stage)
    return data


def names(frames):
    return [frame.path.stem for frame in frames]


def test_llvip_as_it_comes(llvip):
    root, known = llvip
    data = ready(root)
    assert data.cameras == ["01", "02", "19"] and data.train_views.teacher_size is None
    every = [frame for part in data.splits for frame in part]
    assert sorted(names(every)) == sorted(known) and all("infrared" in frame.path.parts for frame in every)
    assert all(frame.teacher_path is None for frame in every)
    for batch in data.test_dataloader():
        for path, target in zip(batch["paths"], batch["targets"], strict=True):
            expected = torch.tensor([known[path[-10:-4]]]).float()
            torch.testing.assert_close(target["boxes"], expected, atol=1e-3, rtol=0)
            assert target["labels"].tolist() == [0]


def test_thermal_pictures_have_three_equal_channels(llvip):
    root, _ = llvip
    with Image.open(root / "infrared/train/010001.jpg") as picture:
        assert picture.mode == "L"
        gray = torch.from_numpy(np.array(picture)) / 255
    data = ready(root, cameras=["01"], fractions=(0.0, 0.0, 1.0), stage="test")
    image = data.datasets["test"][0]["image"]
    assert image.shape == (3, 96, 128) and torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    torch.testing.assert_close(image[0], gray)
    color = ready(root, cameras=["01"], fractions=(0.0, 0.0, 1.0), stage="test", image="visible").datasets[
        "test"
    ][0]
    assert not torch.equal(color["image"][0], color["image"][1])


def seen_box(image):
    """The rectangle's box, measured: brighter than all noise."""
    rows, columns = torch.where(image[0] > 0.3)
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize(("image", "teacher"), [("thermal", "visible"), ("visible", "thermal")])
@pytest.mark.parametrize("size", [128, 256])
def test_both_pictures_are_cut_alike(llvip, image, teacher, size):
    """The rectangle stands at the same place of both views, whatever crop and flip: in 3 epochs of all frames."""
    data = ready(
        llvip[0],
        image=image,
        teacher_image=teacher,
        teacher_size=size,
        crop=(0.6, 1.0),
        fractions=(1.0, 0.0, 0.0),
    )
    flips, checked, brightness = set(), 0, {"thermal": 120 / 255, "visible": 1.0}
    for epoch in range(3):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for i, target in enumerate(batch["targets"]):
                ours, theirs = batch["images"][i], batch["teacher_images"][i]
                if len(target["boxes"]) and (target["boxes"][0, 2:] - target["boxes"][0, :2]).min() > 12:
                    flips.add(bool(batch["views"][i, 4]))
                    checked += 1
                    assert abs(float(ours.amax()) - brightness[image]) < 0.1
                    assert abs(float(theirs.amax()) - brightness[teacher]) < 0.1
                    torch.testing.assert_close(seen_box(ours), target["boxes"][0], atol=2.0, rtol=0)
                    torch.testing.assert_close(
                        seen_box(theirs) * 128 / size, target["boxes"][0], atol=2.0, rtol=0
                    )
    assert flips == {False, True} and checked > 20


def test_by_default_the_teacher_sees_as_many_pixels(llvip):
    data = ready(llvip[0], teacher_image="visible", image_size=64)
    batch = next(iter(data.train_dataloader()))
    assert batch["teacher_images"].shape == batch["images"].shape and batch["teacher_sizes"] == batch["sizes"]
    assert not torch.equal(batch["teacher_images"], batch["images"])
    assert next(iter(data.test_dataloader()))["teacher_images"].shape == (2, 3, 64, 64)
    same = ready(llvip[0], image="visible", teacher_image="visible")
    assert "teacher_images" not in next(iter(same.train_dataloader()))


def test_students_see_the_same_whatever_the_teacher_sees(llvip):
    """What the student gets does not change by a bit, and the teacher's view is that of its picture alone."""
    kwargs = {"teacher_size": 160, "crop": (0.5, 1.0), "color": 0.3}
    pair = ready(llvip[0], teacher_image="visible", **kwargs)
    thermal, visible = ready(llvip[0], **kwargs), ready(llvip[0], image="visible", **kwargs)
    loaders = [module.train_dataloader() for module in (pair, thermal, visible)]
    for ours, plain, other in zip(*loaders, strict=True):
        assert torch.equal(ours["images"], plain["images"]) and torch.equal(ours["views"], plain["views"])
        assert torch.equal(ours["teacher_images"], other["teacher_images"])
        assert not torch.equal(ours["teacher_images"], plain["teacher_images"])


def test_pictures_of_two_resolutions(tmp_path):
    """A thermal camera of half the pixels still is cut to the same view; another shape is refused."""
    for number in range(4):
        box = (16 + 8 * number, 24, 48 + 8 * number, 64)
        visible, _ = pictures(box, number)
        save(visible, tmp_path / "visible/train" / f"01000{number}.jpg")
        _, thermal = pictures([side // 2 for side in box], number, size=(48, 64))
        save(thermal, tmp_path / "infrared/train" / f"01000{number}.jpg")
    kwargs = {"image": "visible", "teacher_image": "thermal", "unlabeled": True, "crop": (0.8, 0.9)}
    kwargs |= {"fractions": (1.0, 0.0, 0.0)}
    for batch in ready(tmp_path, stage="fit", **kwargs).train_dataloader():
        for ours, theirs in zip(batch["images"], batch["teacher_images"], strict=True):
            torch.testing.assert_close(seen_box(ours), seen_box(theirs), atol=3.0, rtol=0)
    save(np.zeros((64, 64), dtype=np.uint8), tmp_path / "infrared/train/010000.jpg")
    data = ready(tmp_path, stage="fit", **kwargs)
    with pytest.raises(
        ValueError, match=r"010000\.jpg \(128x96\) and .*010000\.jpg \(64x64\) differ in shape"
    ):
        list(data.train_dataloader())


def test_orphans_are_reported_in_one_sentence(tmp_path):
    write_llvip(tmp_path)
    for path in ("visible/train/010002.jpg", "infrared/train/010003.jpg", "infrared/test/190001.jpg"):
        (tmp_path / path).unlink()
    with pytest.warns(UserWarning, match="left out") as said:
        data = ready(tmp_path)
        data.setup("test")  # lists them again
    assert sum(map(len, data.splits)) == 15
    assert [str(one.message) for one in said] == [
        f"RGBThermalFolder in {tmp_path} left out 2 visible pictures without a thermal one (such as "
        f"{tmp_path}/visible/test/190001.jpg), 1 thermal pictures without a visible one (such as "
        f"{tmp_path}/infrared/train/010002.jpg)."
    ]
    shutil.rmtree(tmp_path / "infrared")
    with pytest.raises(
        FileNotFoundError, match=r"17 files .* and 0 files like infrared/\{part\}.*, but no pair"
    ):
        ready(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ready(tmp_path / "nothing")


def test_no_frame_is_in_two_parts_and_later_ones_test(llvip):
    data = ready(llvip[0])
    parts = [names(part) for part in data.splits]
    assert len({*parts[0], *parts[1], *parts[2]}) == sum(map(len, parts)) == 18
    for camera in data.cameras:
        train, val, test = ([name for name in part if name.startswith(camera)] for part in parts)
        assert max(train) < min(val) <= max(val) < min(test) and [len(train), len(val), len(test)] == [
            3,
            2,
            1,
        ]


def test_given_parts(llvip):
    data = ready(llvip[0], test={"part": ["test"]}, fractions=(0.8, 0.2, 0.0), stage="fit")
    assert {name[:2] for name in names(data.splits.test)} == {"19"} and len(data.splits.test) == 6
    assert [len(part) for part in data.splits[:2]] == [10, 2]  # 5 and 1 of each camera
    assert {name[:2] for name in names(data.splits.val)} == {"01", "02"}
    data.setup("test")
    assert sum(len(batch["paths"]) for batch in data.test_dataloader()) == 6
    both = ready(llvip[0], test={"part": ["train"], "frame": ["010006"]})
    assert names(both.splits.test) == ["010006"]
    with pytest.raises(ValueError, match=r"test: part: 'tests' is not among .* did you mean test"):
        ready(llvip[0], test={"part": ["tests"]})
    with pytest.raises(ValueError, match="test: 'folder' is not among"):
        ready(llvip[0], test={"folder": ["test"]})


@pytest.mark.parametrize("kind", ["xml", "txt"])
def test_kaist(tmp_path, kind):
    """One folder too deep, as an archive unpacks; xywh in XML, or bbGt; sets 6 to 11 are the official test."""
    known = write_kaist(tmp_path / "kaist-cvpr15", kind)
    labels = "annotations/{set}/{video}/{frame}." + kind
    data = ready(tmp_path, **KAIST, labels=labels, test={"set": ["set06"]}, ignore=["people"])
    assert data.cameras == ["set00_V000", "set00_V001", "set06_V000"]
    assert {frame.camera for frame in data.splits.test} == {"set06_V000"}
    for dataset in (data.datasets["val"], data.datasets["test"]):
        for i, frame in enumerate(dataset.frames):
            name = "/".join([*frame.path.parts[-4:-2], frame.path.stem])
            expected = torch.tensor([known[name]]).float()
            torch.testing.assert_close(dataset[i]["target"]["boxes"], expected, atol=1e-3, rtol=0)


def test_frames_with_ignore_regions_may_be_left_out(tmp_path):
    write_kaist(tmp_path, "txt")
    kwargs = {**KAIST, "labels": "annotations/{set}/{video}/{frame}.txt", "fractions": (0.5, 0.0, 0.5)}
    plain = ready(tmp_path, ignore=["people"], **kwargs)
    with pytest.warns(UserWarning, match=r"left out 3 frames with ignore regions \(such as .*I00020\.txt\)"):
        clean = ready(tmp_path, ignore=["people"], ignored="leave_out", **kwargs)
    assert len(plain.datasets["test"]) == 6 and len(clean.datasets["test"]) == 3
    assert names(clean.datasets["test"].frames) == ["I00040"] * 3
    assert len(clean.datasets["predict"]) == 6  # needs no labels
    everybody = ready(tmp_path, classes={"person": 0, "people": 1}, **kwargs)
    assert everybody.datasets["test"][1]["target"]["labels"].tolist() == [0, 1]


def test_unlabeled_frames_are_left_out_where_labels_are_needed(tmp_path):
    """Half of FLIR-aligned has no label file."""
    for number in range(8):
        visible, thermal = pictures((20, 20, 60, 60), number)
        save(visible, tmp_path / "JPEGImages" / f"FLIR_{number:05d}_RGB.jpg")
        save(thermal, tmp_path / "JPEGImages" / f"FLIR_{number:05d}_PreviewData.jpeg")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        if number % 2:
            text = voc([("car", (20, 20, 60, 60), 0), ("dog", (0, 0, 9, 9), 0)])
            (tmp_path / "Annotations" / f"FLIR_{number:05d}_PreviewData.xml").write_text(text)
    kwargs = {
        "visible": "JPEGImages/{frame}_RGB.jpg",
        "thermal": "JPEGImages/{frame}_PreviewData.jpeg",
        "labels": "Annotations/{frame}_PreviewData.xml",
        "camera": "flir",
        "classes": {"person": 0, "bicycle": 1, "car": 2},
        "fractions": (0.5, 0.0, 0.5),
    }
    counted = r"left out 2 frames without a label file \(such as .*\), 2 objects of other classes \(dog 2\)"
    with pytest.warns(UserWarning, match=counted):
        data = ready(tmp_path, unlabeled=True, **kwargs)
    assert data.cameras == ["flir"] and len(data.datasets["train"]) == 4 and len(data.datasets["test"]) == 2
    assert data.datasets["test"][0]["target"]["labels"].tolist() == [2]
    with pytest.raises(
        FileNotFoundError, match=r"none of 4 frames has a label file, such as .*/labels/FLIR_00004\.xml"
    ):
        ready(tmp_path, stage="test", **kwargs | {"labels": "labels/{frame}.xml"})


def test_a_drawn_world_with_thermal_frames(tmp_path):
    """The layout of CNRPark-EXT, and of the parking world that is drawn with further views."""
    for camera, hour in ((c, h) for c in (1, 2) for h in (8, 9, 10, 11)):
        visible, thermal = pictures((20, 20, 60, 60), hour)
        name = f"SUNNY/2015-11-12/camera{camera}/2015-11-12_{hour:02d}00"
        save(visible, tmp_path / "FULL_IMAGE_128x96" / f"{name}.jpg")
        save(thermal, tmp_path / "THERMAL_128x96" / f"{name}.png")
        (tmp_path / "boxes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "boxes" / f"{name}.txt").write_text(f"0 {40 / 128} {40 / 96} {40 / 128} {40 / 96}\n")
    data = ready(
        tmp_path,
        visible="FULL_IMAGE_128x96/{weather}/{day}/{camera}/{frame}.jpg",
        thermal="THERMAL_128x96/{weather}/{day}/{camera}/{frame}.png",
        labels="boxes/{weather}/{day}/{camera}/{frame}.txt",
        camera="{camera}",
        teacher_image="visible",
    )
    assert data.cameras == ["camera1", "camera2"] and data.splits.train[0].weather == "sunny"
    sample = data.datasets["test"][0]
    torch.testing.assert_close(sample["target"]["boxes"], torch.tensor([[20.0, 20, 60, 60]]))
    torch.testing.assert_close(
        oracle(sample["teacher_image"][None])[0]["boxes"], torch.tensor([[20.0, 20, 60, 60]])
    )


def test_cameras_are_clients(llvip):
    federation = FederatedDataModule(ready(llvip[0], "fit", teacher_image="visible"), Natural("camera"))
    federation.setup("fit")
    assert federation.names == ["01", "02", "19"]
    batch = next(iter(federation.clients[1].train_batches(0)))
    assert set(batch["cameras"]) == {"02"} and batch["teacher_images"].shape == batch["images"].shape


def test_whole_frames_are_those_of_the_teacher(llvip):
    data = ready(llvip[0], teacher_image="visible", teacher_size=256)
    load = data.serve_whole_frames()
    batch = next(iter(data.train_dataloader()))
    assert "teacher_images" not in batch
    images, sizes = load(batch["paths"])
    assert images.shape == (2, 3, 192, 256) and sizes == [(192, 256)] * 2
    for path, found in zip(
        batch["paths"], oracle(images), strict=True
    ):  # only the visible ones have what it finds
        expected = 2 * torch.tensor([llvip[1][path[-10:-4]]]).float()
        torch.testing.assert_close(found["boxes"], expected, atol=2.0, rtol=0)
    data.serve_views()
    assert next(iter(data.train_dataloader()))["teacher_images"].shape == (2, 3, 192, 256)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": "infrared"}, "image: 'infrared' is not among"),
        ({"teacher_image": "rgb"}, "teacher_image: 'rgb' is not among"),
        ({"ignored": "drop"}, "ignored: 'drop' is not among"),
        ({"thermal": "lwir/{frame}.jpg"}, "must have the same places"),
        (
            {"labels": "{image}.xml"},
            r"labels='\{image\}\.xml' must be made of the places \['frame', 'part'\]",
        ),
        ({"camera": "{frame:2d}"}, "camera='{frame:2d}' must be made of the places"),
        ({"test": {"part": ["test"]}, "fractions": (0.0, 0.5, 0.5)}, "leave nothing to train on"),
    ],
)
def test_bad_arguments(llvip, wrong, message):
    with pytest.raises(ValueError, match=message):
        ready(llvip[0], **wrong)


def narrow():
    """YOLOv8 with eight channels or a few more."""
    from lkd.models import YOLO

    return YOLO("yolov8n.yaml").architecture | {"scales": {"n": [0.33, 0.0625, 1024]}}


@pytest.mark.parametrize("sees", ["batch", "frame"])
def test_a_visible_teacher_labels_thermal_frames(llvip, sees):
    """The oracle finds white rectangles, which only visible pictures have; the student trains without labels."""
    from lkd.callbacks import BoxDistillation
    from lkd.modules import Detector
    from lkd.teachers import Teacher

    from ..callbacks.plain import quick_trainer, seeded

    data = ready(llvip[0], teacher_image="visible", unlabeled=True, crop=(0.8, 1.0))
    callback = BoxDistillation(Teacher(oracle), alpha=0.0, hard=1.0, sees=sees)
    labels, found = callback.distiller.own.relabel, []

    def noted(batch):
        batch = labels(batch)
        found.extend(len(target["boxes"]) for target in batch["targets"])
        return batch

    callback.distiller.own.relabel = noted
    student = seeded(0, lambda: Detector(**fcos()))
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(student, datamodule=data)
    assert len(found) == 9 and sum(found) > 0.7 * len(found)  # some are cropped away
    assert oracle(next(iter(ready(llvip[0]).train_dataloader()))["images"])[0]["boxes"].shape == (0, 4)


@needs_yolo
def test_dense_distillation_between_the_two_pictures(llvip):
    """`input_key=teacher_images` shows the teacher its own picture; the student's step sees the thermal one."""
    from lkd.callbacks import Distillation
    from lkd.losses import DenseDetection
    from lkd.models import YOLO
    from lkd.modules import Detector
    from lkd.teachers import Teacher

    from ..callbacks.plain import quick_trainer, seeded

    seen = []

    class Watched(YOLO):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    teacher = seeded(1, lambda: Watched(narrow(), num_classes=1))
    data = ready(llvip[0], teacher_image="visible")
    callback = Distillation(
        Teacher(teacher), [DenseDetection(student_layer="network")], alpha=1.0, input_key="teacher_images"
    )
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(seeded(0, lambda: Detector(narrow(), num_classes=1)), datamodule=data)
    assert trainer.callback_metrics["distillation/densedetection"] > 0
    assert seen and all(
        float(images.amax()) > 0.9 for images in seen
    )  # white is in the visible pictures alone
