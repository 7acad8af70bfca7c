import csv
import re
from collections import Counter

import pytest
import torch

from lkd.datamodules import YoloFolder


def labeled(module):
    return module.annotate(module.frames())


def test_cameras_times_and_classes(yolo):
    vehicles = YoloFolder(str(yolo), class_map={0: 0, 1: 0, 2: 0})
    frames = {frame.path.stem: frame for frame in labeled(vehicles)}
    assert Counter(frame.camera for frame in frames.values()) == {"cam_A": 10, "cam_B": 3}
    assert len(frames["cam_A_3"].boxes) == 0 and len(frames["cam_A_5"].boxes) == 2  # the bike is ignored
    torch.testing.assert_close(frames["cam_A_5"].boxes[1], torch.tensor([0.35, 0.3, 0.65, 0.7]))
    assert frames["cam_A_5"].labels.tolist() == [0, 0]
    everything = {frame.path.stem: frame for frame in labeled(YoloFolder(str(yolo)))}
    assert everything["cam_A_5"].labels.tolist() == [0, 0, 3]
    bikes = {frame.path.stem: frame for frame in labeled(YoloFolder(str(yolo), class_map={3: 1}))}
    assert bikes["cam_A_5"].labels.tolist() == [1]


def test_numbers_are_in_natural_order(yolo):
    module = YoloFolder(str(yolo), cameras=["cam_A"], fractions=(1.0, 0.0, 0.0))
    (yolo / "images" / "cam_A_9.png").rename(yolo / "images" / "cam_A_10.png")
    (yolo / "labels" / "cam_A_9.txt").rename(yolo / "labels" / "cam_A_10.txt")
    module.setup("fit")
    assert [frame.path.stem for frame in module.splits.train] == [f"cam_A_{i}" for i in [*range(9), 10]]
    times = [frame.time for frame in module.splits.train]
    assert times == sorted(times)


def test_times_may_be_decimal_numbers(yolo):
    for place, time in enumerate(("1.75", "1.5", "1.25", "1²0")):
        for folder, suffix in (("images", "png"), ("labels", "txt")):
            (
                yolo / folder / f"cam_B_{place}.{suffix}"
                if place < 3
                else yolo / folder / f"cam_A_0.{suffix}"
            ).rename(yolo / folder / f"cam_B_{time}.{suffix}")
    module = YoloFolder(str(yolo), cameras=["cam_B"], fractions=(1.0, 0.0, 0.0))
    module.setup("fit")
    frames = module.splits.train
    assert [frame.path.stem for frame in frames] == [
        f"cam_B_{time}" for time in ("1²0", "1.25", "1.5", "1.75")
    ]
    assert sorted(frame.time for frame in frames[1:]) == [frame.time for frame in frames[1:]]


def test_empty_label_file_is_no_object_and_missing_one_an_error(yolo):
    (yolo / "labels" / "cam_A_2.txt").write_text("\n")
    frames = {frame.path.stem: frame for frame in labeled(YoloFolder(str(yolo)))}
    assert frames["cam_A_2"].boxes.shape == (0, 4) and frames["cam_A_2"].labels.shape == (0,)
    (yolo / "labels" / "cam_A_2.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"cam_A_2\.txt is missing"):
        YoloFolder(str(yolo)).setup("fit")
    YoloFolder(str(yolo), unlabeled=True, fractions=(1.0, 0.0, 0.0)).setup("fit")


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "car 0.5 0.5 0.1 0.1", "0 a b c d"])
def test_damaged_label_file(yolo, line):
    (yolo / "labels" / "cam_A_2.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(ValueError, match=r"cam_A_2\.txt, line 2: .* is not `class x y w h`"):
        labeled(YoloFolder(str(yolo)))


def test_label_files_may_end_in_capitals(yolo):
    for path in list((yolo / "labels").iterdir()):
        path.rename(path.with_suffix(".TXT"))
    (yolo / "labels" / "cam_A_5.txt").write_text("3 .5 .5 .1 .1\n")  # goes before cam_A_5.TXT
    (yolo / "labels" / "cam_A_99.TXT").write_text("")
    module = YoloFolder(str(yolo))
    with pytest.warns(UserWarning, match=r"left out 1 label files without a picture.*cam_A_99\.TXT"):
        module.frames()
    frames = {frame.path.stem: frame for frame in labeled(YoloFolder(str(yolo)))}
    assert len(frames["cam_A_4"].boxes) == 2 and frames["cam_A_5"].labels.tolist() == [3]


def test_folders_of_parts_may_begin_with_capitals(yolo):
    for part, name in (("Train", "cam_A"), ("VAL", "cam_B"), ("Test", "cam_A_9")):
        for kind in ("images", "labels"):
            (yolo / part / kind).mkdir(parents=True)
            for path in list((yolo / kind).glob(f"{name}*")):
                if part == "Test" or path.stem != "cam_A_9":
                    path.rename(yolo / part / kind / path.name)
    for kind in ("images", "labels"):
        (yolo / kind).rmdir()
    module = YoloFolder(str(yolo))
    module.setup("fit")
    assert [len(part) for part in module.splits] == [9, 3, 1]
    assert {frame.camera for frame in module.splits.train} == {"cam_A"}


def test_names_without_camera_and_missing_folder(yolo, tmp_path):
    (yolo / "images" / "cam_A_2.png").rename(yolo / "images" / "nocamera.png")
    with pytest.raises(ValueError, match=r"nocamera\.png has no camera"):
        YoloFolder(str(yolo)).frames()
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone: put images/ with the pictures"):
        YoloFolder(str(tmp_path / "gone")).frames()


def test_root_is_something_else(yolo):
    """A data.yaml that is not there, the folder of pictures itself, a picture; a data.yaml of another name."""
    (yolo / "lot.yaml").write_text("names: [car, bus, truck, bike]\n")
    (yolo / "args.yaml").write_bytes("model: yolov8n  # für später\n".encode("latin-1"))
    for root, error, message in (
        (
            "dataset.yaml",
            FileNotFoundError,
            r"no file .*dataset\.yaml \(.* has args\.yaml, lot\.yaml\): set root to the",
        ),
        (
            "images",
            FileNotFoundError,
            rf"images holds pictures such as cam_A_0\.png itself.*: set root to {yolo}\.",
        ),
        (
            "images/cam_A_1.png",
            NotADirectoryError,
            r"cam_A_1\.png is a file: set root to the folder that holds images/",
        ),
        ("labels", FileNotFoundError, "labels holds no images/ with the pictures"),
    ):
        with pytest.raises(error, match=message):
            YoloFolder(str(yolo / root)).frames()
    with pytest.warns(
        UserWarning, match=r"left out 1 files like a data\.yaml of another name.* \(such as .*lot\.yaml\)"
    ):
        YoloFolder(str(yolo)).frames()
    data = YoloFolder(str(yolo / "lot.yaml"))
    assert len(data.frames()) == 13 and data.names[3] == "bike"


def test_a_part_without_a_frame_says_what_the_others_have(yolo):
    (yolo / "images" / "test").mkdir()
    for path in list((yolo / "images").glob("*.png")):
        path.rename(yolo / "images" / "test" / path.name)
    with pytest.raises(
        ValueError, match=r"the train split is empty: the frames \(train 0, val 0, test 13\) of 2 cameras"
    ):
        YoloFolder(str(yolo)).setup("fit")


def test_traffic_cams_agree_with_their_readme(sample):
    """Images, cars, buses and trucks of each camera, from the table in the data's own README."""
    root = sample("traffic_cams")
    table = re.findall(
        r"^\| (cam\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", (root / "README.md").read_text(), re.M
    )
    assert len(table) == 6
    frames = labeled(YoloFolder(str(root), class_map={0: 0, 1: 0, 2: 0}))
    assert len(frames) == 236
    images, vehicles = Counter(), Counter()
    for frame in frames:
        images[frame.camera] += 1
        vehicles[frame.camera] += len(frame.boxes)
        assert (frame.boxes >= -1e-4).all() and (frame.boxes <= 1 + 1e-4).all()
    for camera, count, car, bus, truck in csv.reader(",".join(row) for row in table):
        assert images[camera] == int(count)
        assert vehicles[camera] == int(car) + int(bus) + int(truck)
    cars = labeled(YoloFolder(str(root), class_map={0: 0}))
    assert sum(len(frame.boxes) for frame in cars) == 3760


def test_traffic_cams_batches(sample):
    module = YoloFolder(str(sample("traffic_cams")), image_size=160, teacher_size=320, batch_size=4)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["images"].shape == (4, 3, 96, 160) and batch["sizes"] == [(90, 160)] * 4
    assert batch["teacher_images"].shape == (4, 3, 192, 320) and batch["teacher_sizes"] == [(180, 320)] * 4
