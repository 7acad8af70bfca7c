import json
import warnings

import pytest
import torch
from PIL import Image

from lkd.datamodules import CocoFolder

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 18, "name": "van"}]


def box(number, image, bbox, category=3, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def content(images, annotations, categories=CATEGORIES, **more):
    return {
        "info": {"year": 2024},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
        **more,
    }


def entry(number, name, size=(80, 60), **more):
    return {"id": number, "file_name": name, "width": size[0], "height": size[1], **more}


def write(path, listing, size=(80, 60), encoding="utf-8"):
    """The file, and a picture of its own for each entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(listing).encode(encoding))
    for k, one in enumerate(listing["images"]):
        picture = path.parent / one["file_name"]
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (40 * k % 256, one["id"] % 256 if isinstance(one["id"], int) else 7, 99)).save(
            picture
        )
    return path


def labeled(root, **kwargs):
    module = CocoFolder(str(root), **kwargs)
    return {frame.path.name: frame for frame in module.annotate(module.frames())}


def pixels(frame, size=(80, 60)):
    return (frame.boxes * torch.tensor([*size, *size])).round().int().tolist()


@pytest.fixture
def coco(tmp_path):
    """Three frames of cam_A, one of cam_B; ids of categories are not 0, 1."""
    images = [entry(k, f"cam_A_{k}.jpg") for k in (10, 9, 2)] + [entry(4, "cam_B_1.jpg")]
    objects = [box(1, 10, [8, 6, 16, 12]), box(2, 10, [40, 30, 8, 6], 18), box(3, 2, [0, 0, 80, 60], 18)]
    write(tmp_path / "labels.json", content(images, objects))
    return tmp_path


def change(root, **lists):
    path = root / "labels.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **lists}))
    return root


def test_boxes_classes_cameras_and_order_in_time(coco):
    frames = labeled(coco)
    assert pixels(frames["cam_A_10.jpg"]) == [[8, 6, 24, 18], [40, 30, 48, 36]]
    assert frames["cam_A_10.jpg"].labels.tolist() == [0, 1] and frames["cam_A_2.jpg"].labels.tolist() == [1]
    assert frames["cam_A_9.jpg"].boxes.shape == (0, 4)  # no annotation: no object
    module = CocoFolder(str(coco), fractions=(1.0, 0.0, 0.0))
    module.setup("fit")
    assert [frame.path.name for frame in module.splits.train] == [
        *("cam_A_2.jpg", "cam_A_9.jpg", "cam_A_10.jpg", "cam_B_1.jpg")
    ]
    assert module.cameras == ["cam_A", "cam_B"] and module.names == ["car", "van"]


def test_batches(coco):
    module = CocoFolder(str(coco), image_size=64, fractions=(0.5, 0.0, 0.5), batch_size=4)
    module.setup()
    batch = next(iter(module.test_dataloader()))
    assert batch["images"].shape == (4 if len(batch["paths"]) == 4 else len(batch["paths"]), 3, 64, 64)
    (place,) = [k for k, path in enumerate(batch["paths"]) if path.endswith("cam_A_10.jpg")]
    torch.testing.assert_close(batch["targets"][place]["boxes"][0], torch.tensor([6.4, 4.8, 19.2, 14.4]))


def test_chosen_classes_and_what_is_left_out_is_counted(coco):
    with pytest.warns(UserWarning, match=r"1 objects of other classes \(car 1\)"):
        frames = labeled(coco, classes={"van": 0})
    assert frames["cam_A_10.jpg"].labels.tolist() == [0] and len(frames["cam_A_2.jpg"].boxes) == 1
    with pytest.raises(ValueError, match=r"'cars' is not among .*did you mean car"):
        labeled(coco, classes={"cars": 0})
    with pytest.raises(ValueError, match="must map names of categories"):
        CocoFolder(classes={})


def test_stretched_pictures_are_scaled_along_each_axis_and_said_once(coco):
    expected = labeled(coco)["cam_A_10.jpg"].boxes
    for path in coco.glob("*.jpg"):
        Image.new("RGB", (64, 64), (int(path.stem[-1]), 9, 9)).save(path)
    with pytest.warns(UserWarning, match="4 of 4 pictures .* 80x60 in the file, 64x64 on disk") as said:
        frames = labeled(coco)
    assert torch.equal(frames["cam_A_10.jpg"].boxes, expected) and len(said) == 1


def test_a_size_turned_on_its_side_is_refused(coco):
    Image.new("RGB", (60, 80)).save(coco / "cam_A_9.jpg")
    with pytest.raises(
        ValueError, match=r"image 9 \(cam_A_9\.jpg\).* 60x80 on disk: one of the two is turned"
    ):
        labeled(coco)


def test_a_size_that_the_file_does_not_say_is_the_pictures(coco):
    images = [{"id": 10, "file_name": "cam_A_10.jpg"}]
    with pytest.warns(UserWarning, match="1 annotations of pictures .* 3 pictures that no file lists"):
        frames = labeled(change(coco, images=images))
    assert pixels(frames["cam_A_10.jpg"])[0] == [8, 6, 24, 18]
    for size in ((0, 60), (-80, 60), ("wide", 60), (80, None)):
        broken = change(coco, images=[entry(10, "cam_A_10.jpg", size)])
        with (
            pytest.raises(ValueError, match=r"labels\.json, image 10 .* must be above 0"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            labeled(broken)


@pytest.mark.parametrize(
    ("bbox", "match"),
    [
        ([8, 6, 16], "is not four numbers"),
        ([8, 6, 16, 12, 30], "is not four numbers"),
        (["a", 6, 16, 12], "is not four numbers"),
        (None, "is not four numbers"),
        ([8, 6, -4, 12], "negative width or height"),
        ([8, 6, float("nan"), 12], "not finite"),
        ([100, 6, 16, 12], "outside the picture"),
        ([8, 6, 800, 12], "outside the picture"),
    ],
)
def test_boxes_that_cannot_be_are_refused_by_file_and_entry(coco, bbox, match):
    change(coco, annotations=[box(1, 9, [1, 1, 5, 5]), box(77, 10, bbox)])
    with pytest.raises(ValueError, match=rf"labels\.json, annotation 77 of cam_A_10\.jpg: .*{match}"):
        labeled(coco)


def test_corners_and_shares_in_place_of_sizes_in_pixels_are_refused(coco):
    change(
        coco, annotations=[box(1, 10, [44, 20, 60, 40]), box(2, 9, [30, 34, 44, 50]), box(3, 2, [2, 2, 9, 9])]
    )
    with pytest.raises(ValueError, match="2 of 3 boxes reach beyond their pictures; bbox must be x, y, w, h"):
        labeled(coco)
    change(coco, annotations=[box(1, 10, [0.1, 0.2, 0.3, 0.4])])
    with pytest.raises(ValueError, match="bbox must be in pixels, not shares"):
        labeled(coco)


def test_what_is_dropped_or_clipped_is_counted(coco):
    good = [box(k, 9, [10 * k, 10, 8, 8]) for k in range(4)]
    bad = [
        box(10, 9, [10, 10, 8, 8]),  # as 1
        box(11, 9, [10, 20, 0, 8]),
        box(12, 9, [60, 20, 30, 8]),
        box(13, 9, [20, 20, 40, 30], iscrowd=1, segmentation={"counts": [1], "size": [60, 80]}),
        box(14, 999, [1, 1, 5, 5]),
    ]
    (coco / "cam_A_2.jpg").unlink()
    with pytest.warns(UserWarning) as said:
        frames = labeled(change(coco, annotations=good + bad))
    assert pixels(frames["cam_A_9.jpg"])[-1] == [60, 20, 80, 28] and len(frames["cam_A_9.jpg"].boxes) == 5
    text = " ".join(str(one.message) for one in said)
    for part in (
        "1 repeated boxes (such as",
        "1 boxes without area",
        "1 parts of boxes beyond the picture's edge",
        "1 crowds and regions to ignore",
        "1 annotations of pictures that their file does not list",
        "1 listed pictures that are not there",
    ):
        assert part in text and len(said) == 2
    with pytest.warns(UserWarning, match="1 frames with crowds"):
        assert "cam_A_9.jpg" not in labeled(coco, ignored="leave_out")


def test_objects_without_a_box_have_that_of_their_polygons(coco):
    polygons = [[8, 6, 20, 6, 14, 30], [30, 10, 40, 10, 40, 20]]
    change(coco, annotations=[{**box(1, 10, []), "segmentation": polygons}])
    assert pixels(labeled(coco)["cam_A_10.jpg"]) == [[8, 6, 40, 30]]
    rle = {"counts": [1], "size": [60, 80]}
    change(coco, annotations=[{**box(5, 10, []), "segmentation": rle}])
    with pytest.raises(ValueError, match=r"annotation 5 of .*its segmentation, a dict, no list of polygons"):
        labeled(coco)


@pytest.mark.parametrize(
    ("lists", "match"),
    [
        (
            {"images": [entry(1, "a_1.jpg"), entry(1, "a_2.jpg")]},
            r"'a_1\.jpg' and 'a_2\.jpg' have the same id 1",
        ),
        ({"images": [{"id": 1}]}, "has no `id` and `file_name`"),
        ({"images": {"1": "a.jpg"}}, "`images` must be a list"),
        ({"categories": [{"id": 3, "name": "car"}, {"id": 3, "name": "van"}]}, "have the id 3"),
        ({"categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "car"}]}, "or the name 'car'"),
        ({"categories": [{"id": 3}]}, "has no `id` and `name`"),
        (
            {"categories": [{"id": 3, "name": "car"}]},
            "annotation 2 of cam_A_10.jpg: .*no category with the id 18",
        ),
        ({"categories": []}, "no category with the id 3"),
        ({"annotations": [box(1, "x", [1, 1, 5, 5])]}, "none of the 1 annotations is of a listed picture"),
        ({"annotations": []}, "no annotations at all"),
        ({"annotations": None}, "no annotations at all"),
        ({"annotations": [box(1, 10, [1, 1, 5, 5], iscrowd="yes")]}, "iscrowd='yes' must be 0 or 1"),
    ],
)
def test_files_that_contradict_themselves_are_refused(coco, lists, match):
    change(coco, **lists)
    with pytest.raises(ValueError, match=match):
        labeled(coco)


def test_ids_as_text_are_the_same(coco):
    change(coco, annotations=[box(1, "10", [8, 6, 16, 12], "3"), box(2, 10.0, [40, 30, 8, 6], 18.0)])
    assert labeled(coco)["cam_A_10.jpg"].labels.tolist() == [0, 1]


@pytest.mark.parametrize(("encoding", "fine"), [("utf-8-sig", True), ("utf-16", True), ("latin-1", False)])
def test_encodings(coco, encoding, fine):
    listing = json.loads((coco / "labels.json").read_text())
    listing["info"] = {"description": "caf\xe9"}
    (coco / "labels.json").write_bytes(json.dumps(listing, ensure_ascii=False).encode(encoding))
    if fine:
        assert len(labeled(coco)) == 4
    else:
        with pytest.raises(ValueError, match=r"labels\.json is not text in UTF-8"):
            labeled(coco)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"images": [\n{"id": 1,}]}', r"labels\.json, line 2: is no JSON"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]', "is a list, as COCO's files of results"),
        ('{"shapes": []}', "is not in COCO's format: it has no `images`"),
    ],
)
def test_other_files_are_refused(coco, text, match):
    (coco / "labels.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        labeled(coco)


def test_unlabeled_training_needs_no_annotations(coco):
    change(coco, annotations=None)
    CocoFolder(str(coco), unlabeled=True, fractions=(1.0, 0.0, 0.0)).setup("fit")


def test_nothing_there(tmp_path, coco):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        CocoFolder(str(tmp_path / "none")).frames()
    with pytest.raises(FileNotFoundError, match=r"holds no file labels/\*\.json"):
        CocoFolder(str(coco), annotations="labels/*.json").frames()
    with pytest.raises(
        FileNotFoundError, match=r"none of 4 listed pictures is there: .*pictures/cam_A_10\.jpg"
    ):
        CocoFolder(str(coco), images="pictures").frames()


@pytest.mark.parametrize(
    ("root", "arguments", "error", "message"),
    [
        (
            "",
            {"name": "{frame}.jpg", "camera": "{location}"},
            ValueError,
            r"place 'location', which is neither in name='\{frame\}",
        ),
        (
            "",
            {"name": "{camera}-{frame}.jpg"},
            ValueError,
            r"is not of the pattern .*, such as name='\{frame\}\.\{type\}' with",
        ),
        (
            "",
            {"annotations": "/elsewhere/a.json"},
            ValueError,
            "annotations='/elsewhere/a.json' must be a path .* below root=",
        ),
        (
            "labels.json",
            {},
            NotADirectoryError,
            r"labels\.json is a file: set root to the folder that holds COCO",
        ),
    ],
)
def test_what_leads_nowhere_is_said_with_what_would(coco, root, arguments, error, message):
    with pytest.raises(error, match=message):
        CocoFolder(str(coco / root), **arguments).frames()


def test_frames_that_are_all_left_out(coco):
    change(coco, annotations=[box(k, k, [1, 1, 9, 9], iscrowd=1) for k in (10, 9, 2, 4)])
    with pytest.raises(
        ValueError, match="the train split is empty: all its 3 frames were left out as their labels were read"
    ):
        CocoFolder(str(coco), ignored="leave_out").setup("fit")


def test_parts_and_folders_of_their_own(tmp_path):
    """The layout of COCO itself: annotations/instances_<part>2017.json beside <part>2017/."""
    for number, part in enumerate(("train", "val")):
        listing = content([entry(k, f"{part}_{k}.jpg") for k in range(4)], [box(1, 0, [8, 6, 16, 12])])
        write(tmp_path / f"{part}2017" / "listing.json", listing)
        target = tmp_path / "annotations" / f"instances_{part}2017.json"
        target.parent.mkdir(exist_ok=True)
        (tmp_path / f"{part}2017" / "listing.json").rename(target)
        Image.new("RGB", (80, 60), (number, 200, 9)).save(tmp_path / f"{part}2017" / f"{part}_0.jpg")
    (tmp_path / "annotations" / "._instances_train2017.json").write_bytes(b"\0\5")
    files = {part: f"annotations/*instances_{part}2017.json" for part in ("train", "val")}
    module = CocoFolder(str(tmp_path), annotations=files, images="{part}2017", fractions=(0.6, 0.2, 0.2))
    with pytest.warns(
        UserWarning,
        match=r"the last 2 of its 4 samples, in time, are the test, by fractions=\(0.6, 0.2, 0.2\)",
    ):
        module.setup("fit")
    assert [[frame.path.name for frame in part] for part in module.splits] == [
        [f"train_{k}.jpg" for k in range(4)],
        ["val_0.jpg", "val_1.jpg"],
        ["val_2.jpg", "val_3.jpg"],  # cut from the part before, as it has none of its own
    ]
    with pytest.raises(ValueError, match="annotations: 'valid' is not among"):
        CocoFolder(annotations={"valid": "*.json"})
    with pytest.raises(ValueError, match="is in two parts, 'train' and 'val'"):
        CocoFolder(str(tmp_path), annotations=dict.fromkeys(("train", "val"), "**/*.json")).frames()
    with pytest.raises(ValueError, match=r"may have the places \{part\} and \{file\} only"):
        CocoFolder(images="{parts}")


def test_an_export_of_roboflow_keeps_its_parts(tmp_path):
    for number, part in enumerate(("train", "valid", "test")):
        listing = content([entry(k, f"cam_{number}{k}.jpg") for k in range(3)], [box(1, 0, [8, 6, 16, 12])])
        write(tmp_path / part / "_annotations.coco.json", listing)

    def sizes(**kwargs):
        module = CocoFolder(str(tmp_path), **kwargs)
        module.setup("test")
        return [[frame.path.parent.name for frame in part] for part in module.splits]

    assert sizes() == [["train"] * 3, ["valid"] * 3, ["test"] * 3]
    pooled = sizes(annotations="**/*.json")  # who asks for it
    assert [len(part) for part in pooled] == [5, 2, 2]
    write(tmp_path / "more" / "a.json", content([entry(1, "cam_91.jpg")], [box(1, 1, [8, 6, 16, 12])]))
    with pytest.raises(
        ValueError, match=r"more/a\.json is in no part, while .*train/_annotations.* say by annotations"
    ):
        sizes()
    (tmp_path / "train" / "_annotations.coco.json").rename(tmp_path / "train" / "a.txt")
    assert [len(part) for part in sizes()] == [4, 2, 1]  # nothing is called train: no parts


def test_a_picture_of_two_files_is_refused(coco):
    (coco / "more.json").write_text((coco / "labels.json").read_text())
    with pytest.raises(
        ValueError, match=r"cam_A_10\.jpg is listed twice: by .*labels\.json.*, and by .*more\.json"
    ):
        labeled(coco)


def test_classes_of_several_files_are_one_by_name(tmp_path):
    write(tmp_path / "a" / "one.json", content([entry(1, "a_1.jpg")], [box(1, 1, [1, 1, 9, 9], 18)]))
    other = [{"id": 3, "name": "van"}, {"id": 5, "name": "bus"}]
    write(tmp_path / "b" / "two.json", content([entry(1, "b_1.jpg")], [box(1, 1, [1, 1, 9, 9])], other))
    frames = labeled(tmp_path)
    assert [frames[name].labels.tolist() for name in ("a_1.jpg", "b_1.jpg")] == [[1], [1]]
    module = CocoFolder(str(tmp_path))
    module.frames()
    assert module.names == ["car", "van", "bus"]


def test_camera_and_time_by_pattern_and_by_fields(tmp_path):
    """Names as Roboflow gives them, in a folder a camera, of which one is there twice; then fields, as camera traps have."""
    names = [
        f"2015-11-{day}_{hour}_C02_jpg.rf.0a{k}.jpg"
        for k, (day, hour) in enumerate((("21", "1414"), ("9", "0910")))
    ]
    kinds = [
        {"id": 0, "name": "cars", "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": "cars"},
    ]
    listing = content([entry(k, name) for k, name in enumerate(names)], [box(1, 1, [1, 1, 9, 9], 1)], kinds)
    for folder in ("C2/test", "C2 copy/test"):
        write(tmp_path / folder / "_annotations.coco.json", listing)
    study = {
        "name": "{day}_{hour}_C0{number}_jpg.rf.{hash}.jpg",
        "camera": "C{number}",
        "time": "{day}T{hour}",
    }
    module = CocoFolder(str(tmp_path), annotations="*/test/*.json", fractions=(1.0, 0.0, 0.0), **study)
    with pytest.warns(UserWarning, match="2 pictures that are copies of others"):
        module.setup("fit")
    assert [frame.time for frame in module.splits.train] == ["2015-11-9T0910", "2015-11-21T1414"]
    assert module.cameras == ["C2"] and module.names == ["car"]
    assert module.datasets["train"].frames[0].labels.tolist() == [0]
    images = [entry(1, "x/1.jpg", location=7, datetime="2020-01-02"), entry(2, "x/2.jpg", location=7)]
    write(tmp_path / "traps" / "t.json", content(images, [box(1, 1, [1, 1, 9, 9])]))
    fields = {"name": "{file}.jpg", "camera": "{location}", "time": "{datetime}"}
    with pytest.raises(
        ValueError, match=r"image 2 \(x/2\.jpg\): .* place 'datetime', .* there are file, file_name"
    ):
        CocoFolder(str(tmp_path / "traps"), **fields).frames()
    frame, _ = CocoFolder(str(tmp_path / "traps"), **{**fields, "time": "{id}"}).frames()
    assert (frame.camera, frame.time) == ("7", "1")
    with pytest.raises(ValueError, match=r"image 1 .*'1\.jpg' is not of the pattern name="):
        CocoFolder(str(tmp_path / "traps")).frames()


def test_different_pictures_of_one_moment_are_kept_and_said(tmp_path):
    images = [entry(1, "a_1.jpg"), entry(2, "x/a_1.jpg")]
    write(tmp_path / "one.json", content(images, [box(1, 1, [1, 1, 9, 9])]))
    with pytest.warns(UserWarning, match="1 pictures have the camera and time of another"):
        assert len(CocoFolder(str(tmp_path)).frames()) == 2


def test_names_with_backslashes(tmp_path):
    listing = content([entry(1, "train/a_1.jpg")], [box(1, 1, [1, 1, 9, 9])])
    path = write(tmp_path / "one.json", listing)
    path.write_text(path.read_text().replace("train/a_1", "train\\\\a_1"))
    assert labeled(tmp_path)["a_1.jpg"].camera == "a"


def test_names_that_the_default_pattern_takes_for_as_many_cameras_are_said(tmp_path):
    images = [entry(k, f"yard_{k}_jpg.rf.{k}a.jpg") for k in range(3)]
    write(tmp_path / "one.json", content(images, [box(1, 1, [1, 1, 9, 9])]))
    with pytest.warns(UserWarning, match="each of the 3 pictures .* is of another camera"):
        CocoFolder(str(tmp_path)).frames()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = CocoFolder(str(tmp_path), name="{camera}_{frame}_jpg.rf.{hash}.jpg").frames()
    assert {frame.camera for frame in frames} == {"yard"}


def test_one_file_a_camera(tmp_path):
    for camera in ("cam1", "cam2"):
        write(
            tmp_path / "frames" / camera / "x.json", content([entry(1, "7.jpg")], [box(1, 1, [1, 1, 9, 9])])
        )
        (tmp_path / "frames" / camera / "x.json").rename(tmp_path / f"{camera}.json")
    module = CocoFolder(str(tmp_path), "*.json", "frames/{file}", "{camera}/{frame}.jpg")
    assert [(frame.camera, frame.time) for frame in module.frames()] == [("cam1", "7"), ("cam2", "7")]


def test_a_test_picture_that_is_also_learned_from_is_left_out_of_the_test(tmp_path):
    images = [entry(k, f"a_{k}.jpg") for k in range(3)]
    for part in ("test", "train"):
        write(tmp_path / part / "one.json", content(images, [box(k, k, [1, 1, 9, 9]) for k in range(3)]))
    Image.new("RGB", (80, 60), (1, 2, 3)).save(tmp_path / "test" / "a_2.jpg")
    files = {part: f"{part}/one.json" for part in ("test", "train")}
    module = CocoFolder(str(tmp_path), files, fractions=(0.5, 0.0, 0.5))
    with pytest.warns(UserWarning, match=r"2 pictures that are copies of others \(such as .*test/a_0\.jpg"):
        module.setup()
    assert [len(part) for part in module.splits] == [3, 0, 1]
