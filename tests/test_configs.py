"""Every YAML under configs/ runs to its end, shrunk, on generated data at the very paths that it names."""

import csv
import json
import os
import re
import tarfile
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import yaml
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image

from lkd.cli import main
from lkd.datamodules import ParkingWorld
from lkd.models import YOLO
from lkd.models.yolo_import import ultralytics_tasks

from .detectors import needs_yolo
from .recordings import write_recordings
from .roads import write_roads
from .uci import write_release

ROOT = Path(__file__).parents[1]
needs_accountant = pytest.mark.skipif(not find_spec("dp_accounting"), reason="needs the extra privacy")
CONFIGS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "configs").rglob("*.yaml")
    # sweeps are run by test_sweeps.py, comparisons by compare/; logging/ and networks/ hold parts, nothing by themselves;
    # edge/ compresses students of the others, and has them share their work with a server
    if path.relative_to(ROOT / "configs").parts[0]
    not in ("sweeps", "tradeoff", "logging", "networks", "edge")
)
EDGE = sorted(path.relative_to(ROOT) for path in (ROOT / "configs/edge").glob("*.yaml"))
COMPRESSIONS = [path for path in EDGE if "steps" in yaml.safe_load((ROOT / path).read_text())]
ARMS = [path for path in EDGE if "arms" in yaml.safe_load((ROOT / path).read_text())]
CASCADES = [
    path
    for path in EDGE
    if {"budget", "arms"} & yaml.safe_load((ROOT / path).read_text()).keys() == {"budget"}
]
SMALL_TRAINER = {
    "trainer.limit_train_batches": 2,
    "trainer.limit_val_batches": 1,
    "trainer.limit_test_batches": 4,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
}
SMALL_FRAMES = {"data.image_size": 64, "data.teacher_size": 96, "data.batch_size": 2}


def weights():
    """`data/weights/*.pt` as Ultralytics writes them: an 80-class network, untrained and narrow."""
    if find_spec("ultralytics") is None:
        return  # what would read them is skipped
    tasks, folder = ultralytics_tasks(), Path("data/weights")
    folder.mkdir(parents=True)
    for name in ("yolov8n", "yolo11n"):
        architecture = YOLO(f"{name}.yaml").architecture
        depth = architecture["scales"]["n"][0]
        architecture = {**architecture, "nc": 80, "scales": {"n": [depth, 0.0625, 1024]}}
        network = tasks.DetectionModel(architecture, verbose=False).half()
        torch.save({"model": network, "ema": None, "train_args": {}}, folder / f"{name}.pt")


def cifar():
    """A module in the working directory whose class has torchvision's interface: the real one checks MD5 sums."""
    Path("generated_cifar.py").write_text("""
import numpy as np

class CIFAR100:
    def __init__(self, root, train=True, download=False):
        self.data = np.random.default_rng(int(train)).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
        self.targets = [4 * k for k in range(24)]
        self.classes = list(range(100))
""")
    cifar_pictures()


def cifar_pictures():
    """A tar of class folders."""
    Path("data/cifar10_subset").mkdir(parents=True)
    with tarfile.open("data/cifar10_subset/cifar10_subset.tar", "w") as tar:
        for part, label, number in product(("train", "test"), range(10), range(12)):
            Image.new("RGB", (32, 32), (25 * label, 9, number)).save("one.png")
            tar.add("one.png", f"{part}/class{label}/{number}.png")


def traffic():
    weights()
    write_roads(Path("data/traffic_cams"), count=5)


def cnrpark():
    """Two cameras on five days, two slots, of which one is busy; and some of it as the study published it."""
    weights()
    root, labels, images = Path("data/cnrpark_ext"), [], []
    (root / "LABELS").mkdir(parents=True)
    (root / "published/test").mkdir(parents=True)
    for camera, day, hour in product((1, 2), ("12", "13", "16", "17", "18"), ("0807", "1407")):
        folder = root / "FULL_IMAGE_100x75" / "SUNNY" / f"2015-11-{day}" / f"camera{camera}"
        folder.mkdir(parents=True, exist_ok=True)
        (root / f"camera{camera}.csv").write_text("SlotId,X,Y,W,H\n1,259,194,259,194\n2,1500,900,518,388\n")
        picture = Image.effect_noise((100, 75), 9 + camera).convert("RGB")
        picture.paste((250, 250, 250), (58, 35, 78, 50))
        picture.save(folder / f"2015-11-{day}_{hour}.jpg")
        name = f"2015-11-{day}_{hour[:2]}.{hour[2:]}_C0{camera}"
        labels += [f"SUNNY/2015-11-{day}/camera{camera}/S_{name}_{slot}.jpg {slot - 1}" for slot in (1, 2)]
        name = f"2015-11-{day}_{hour}_C0{camera}_jpg.rf.0a1b.jpg"
        picture.resize((64, 64)).save(root / "published/test" / name)
        images.append({"id": len(images), "file_name": name, "width": 64, "height": 64})
    (root / "LABELS" / "all.txt").write_text("\n".join(labels) + "\n")
    boxes = [{"id": k, "image_id": k, "category_id": 1, "bbox": [37, 30, 13, 13]} for k in range(len(images))]
    published = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "car"}]}
    (root / "published/test/_annotations.coco.json").write_text(json.dumps(published))


def shrunk_cnrpark(config):
    """Two of the nine students."""
    per_camera = "cameras" in config["model"]["init_args"]
    return {**SMALL_FRAMES, **({"model.cameras": ["C1", "C2"]} if per_camera else {})}


def pklot():
    """Two frames of one lot, each with a mask of two cars that touch."""
    weights()
    sequence = Path("data/pklot/sequence0")
    corners = "".join(f'<point x="{{{side}}}" y="{y}" />' for side, y in ((0, 8), (1, 8), (1, 32), (0, 32)))
    slot = f'<space occupied="1"><contour>{corners}</contour></space>'
    for folder in ("frames", "bounding_boxes", "masks"):
        (sequence / folder).mkdir(parents=True)
    for name in ("2013-02-22_06_25_00", "2013-02-22_06_30_00"):
        Image.new("RGB", (100, 50)).save(sequence / "frames" / f"{name}.jpg")
        (sequence / "bounding_boxes" / f"{name}.xml").write_text(
            f'<parking id="lotA">{slot.format(20, 35)}{slot.format(35, 50)}</parking>'
        )
        mask = Image.new("RGB", (100, 50))
        mask.paste((1, 1, 1), (20, 10, 50, 30))
        mask.save(sequence / "masks" / f"{name}.png")


def clients():
    """Roads, a tar of class folders, and patches of two cameras on a day that the config names."""
    traffic()
    root, labels = Path("data/cnrpark_patches"), []
    (root / "LABELS").mkdir(parents=True)
    for camera, hour, slot in product((1, 2), range(8, 14), (1, 2)):
        name = f"SUNNY/2015-11-12/camera{camera}/S_2015-11-12_{hour:02d}.07_C0{camera}_{slot}.jpg"
        (root / "PATCHES" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((150, 150), 99).convert("RGB").save(root / "PATCHES" / name)
        labels.append(f"{name} {slot - 1}")
    (root / "LABELS" / "all.txt").write_text("\n".join(labels) + "\n")
    cifar_pictures()


def shrunk_classifier(config):
    """CIFAR's networks as they are on a few generated images; smaller ones where timm has them."""
    if config["data"]["class_path"] == "TorchvisionData":
        return {"data.dataset": "generated_cifar.CIFAR100", "data.batch_size": 4}
    return (
        {"model.network": "test_resnet"}
        if isinstance(config["model"]["init_args"].get("network"), str)
        else {}
    )


def shrunk_clients(config):
    """Smaller frames, and fewer where they are drawn first."""
    init = config["data"]["init_args"]["data"]
    kind, given = init["class_path"], init["init_args"]
    small = {"image_size": 64, "teacher_size": 96, "batch_size": 2} if "teacher_size" in given else {}
    if kind == "ParkingWorld":
        small |= {"frames": 10, "size": [96, 72], "cameras": ["C1", "C2"]}
    return {f"data.data.{name}": value for name, value in small.items()}


def two_cameras(config):
    """The first two of a config's own cameras."""
    return config["data"]["init_args"].get("cameras", ["C1", "C2"])[:2]


def activities():
    write_recordings(
        Path("data/har_spsw"), subjects=23, executions=2
    )  # as many as there are, as configs name them
    write_release(Path("data/uci_har"))


CAMERAS = ["C1", "C2", "C3", "C101", "C102"]
SENSORS = {
    "frames": 24,
    "size": [64, 48],
}  # four days: a public one, and one each to train, validate and test


@cache
def sensors():
    """A small world with all views, drawn once for all configs, which find nothing left to draw; it goes when tests end."""
    folder = TemporaryDirectory()
    ParkingWorld(folder.name, CAMERAS, task="patches", views=["thermal", "depth"], **SENSORS).prepare_data()
    return folder


def modalities():
    """Activities; the small world wherever configs draw one; and labels of slots on three days: the context needs no picture."""
    activities()
    for name in ("world_sensors", "world_sensors_general", "world_nine_days"):
        Path("data", name).symlink_to(sensors().name)
    root, labels = Path("data/cnrpark_ext"), []
    for day, hour, slot in product((12, 16, 20), (8, 14), (1, 2)):
        name = f"SUNNY/2015-11-{day}/camera1/S_2015-11-{day}_{hour:02d}.07_C01_{slot}.jpg"
        labels.append(f"{name} {slot - 1}")
    (root / "LABELS").mkdir(parents=True)
    (root / "LABELS" / "all.txt").write_text("\n".join(labels) + "\n")


def shrunk_modalities(config):
    """Cameras of the small world, of those that a config names if it does."""
    init, where = config["data"], "data"
    if init["class_path"] == "FederatedDataModule":
        init, where = init["init_args"]["data"], "data.data"
    if init["class_path"] != "ParkingWorld":
        return {}
    cameras = [name for name in CAMERAS if name in init["init_args"].get("cameras", CAMERAS[:3])]
    return {f"{where}.{name}": value for name, value in {**SENSORS, "cameras": cameras}.items()}


SMALL_WORLD = {**SMALL_FRAMES, "data.frames": 10, "data.size": [96, 72], "data.cameras": two_cameras}

# Folder under configs/ -> (verb, what makes the data in the working directory, overrides of its own: values,
# or functions of the config; or one function of it that gives them all). A new folder needs a line here; configs that
# say no number of epochs only measure and are run by `test`.
SHRINK = {
    "classification": ("fit", cifar, shrunk_classifier),
    "traffic": ("fit", traffic, SMALL_FRAMES),
    "cnrpark": ("fit", cnrpark, shrunk_cnrpark),
    "pklot": ("fit", pklot, SMALL_FRAMES),
    "parking": ("fit", weights, SMALL_WORLD),
    "federated": ("fit", clients, shrunk_clients),
    "knowledge": ("fit", clients, shrunk_clients),
    "multimodal": ("fit", modalities, shrunk_modalities),
}


# Beside what shrinks the student's own configuration.
SHRUNK_COMPRESSION = {
    "parking": {
        "model.cameras": ["C1"],  # a file for each takes long to make; tests/edge has several
        "data.cameras": ["C1"],
        "model.start": None,
        "model.start_recipe": None,
        "supervised_twin": False,
        "data.frames": 20,
    }
}


def how_to_shrink(path, config=None):
    folder = path.parts[1]
    if folder not in SHRINK:
        pytest.fail(f"{path}: add a line for {folder!r} to SHRINK, so that this config is run too")
    verb, make, overrides = SHRINK[folder]
    verb = verb if config is None or "max_epochs" in config["trainer"] else "test"
    epochs = {"trainer.max_epochs": 1} if verb == "fit" else {}
    overrides = overrides(config) if callable(overrides) else overrides
    overrides = {name: v(config) if callable(v) else v for name, v in overrides.items()}
    return verb, make, {**overrides, **epochs, **SMALL_TRAINER}


def shrunk_recipe(recipe):
    """Writes the config of a teacher, shrunk, where the student's config looks for it."""
    path = Path(recipe)
    config = yaml.safe_load((ROOT / path).read_text())
    for name, value in how_to_shrink(path, config)[2].items():
        section, key = name.split(".")
        place = config[section]
        place.get("init_args", place)[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    for _, other in recipes_of(config):
        shrunk_recipe(other)


TRAINED = {}  # checkpoints and their records of teachers that an earlier test has trained, by recipe


def keep(checkpoint, recipe):
    """Puts what was trained by the same shrunk recipe where it is looked for, or keeps it if it is new."""
    for path in (Path(checkpoint), Path(checkpoint + ".recipe")):
        key = (recipe, path.name)
        if path.is_file():
            TRAINED[key] = path.read_bytes()
        elif key in TRAINED:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(TRAINED[key])


def in_this_process(recipe, done, *options, threads=None, stop=None):
    """A teacher's run without the seconds in which another process begins: that one is of tests/teachers/test_recipe.py."""
    with isolate_rng():
        main(["fit", "--config", recipe, *options])


def teacher_of(config):
    """What a config says of its teacher, which is that of the distillation or of the federation's algorithm."""
    algorithm = config["model"]["init_args"].get("algorithm")
    for user in (config.get("distillation"), algorithm):
        if isinstance(user, dict) and "teacher" in user["init_args"]:
            teacher = user["init_args"]["teacher"]
            return teacher.get("init_args", teacher)
    return {}


def recipes_of(config):
    """Checkpoints that a config has made first, by which recipe: its teacher, and what its students start from."""
    start, teacher = config["model"]["init_args"], teacher_of(config)
    found = [(start.get("start"), start.get("start_recipe")), (teacher.get("model"), teacher.get("recipe"))]
    return [(checkpoint, recipe) for checkpoint, recipe in found if recipe]


def words(overrides):
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in overrides.items()
    ]


def check_results(config):
    """The logs, and the report if one was asked for, are where the config says."""
    trainer = config["trainer"]
    where = trainer["logger"]["init_args"]
    (logs,) = Path(where["save_dir"], where["name"]).glob("version_0")
    with (logs / "metrics.csv").open(newline="") as file:
        names = {name for row in csv.DictReader(file) for name, value in row.items() if value}
    tested = "test/" if config.get("test_after_fit", True) else "clients/test/"
    assert any(name.startswith(tested) for name in names), "the test after the run is missing"
    for callback in (c for c in trainer.get("callbacks", []) if c["class_path"] == "DetectionReport"):
        with (logs / "report/table.csv").open(newline="") as file:
            roles = {row["Role"] for row in csv.DictReader(file)}
        wanted = {"Teacher": config.get("distillation"), "Before": callback.get("init_args", {}).get("before"), "Student": True,
                  "Twin": config.get("supervised_twin")}  # fmt: skip
        assert roles == {role for role, asked in wanted.items() if asked}
    if any(callback["class_path"] == "ClientReport" for callback in trainer.get("callbacks", [])):
        with (logs / "report/clients.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) > 1 and sum(int(row["rounds"]) for row in rows)
        assert not any(int(row["failures"]) for row in rows)
        assert (logs / "report/rounds.png").is_file()
    return names


def extras(path):
    """The mark of a config that needs an extra, itself or in a config that it names: a YOLO, or an accountant of privacy."""
    seen, ahead = set(), [path]
    while ahead:
        seen.add(one := Path(ahead.pop()))
        text = (ROOT / one).read_text()
        if "yolo" in text:
            return [needs_yolo]
        if "ClientDP" in text:
            return [needs_accountant]
        ahead += {Path(name) for name in re.findall(r"configs/\S+\.yaml", text)} - seen
    return []


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=f"{path.parent.name}/{path.stem}", marks=extras(path)) for path in CONFIGS]
)
def test_config_runs_to_its_end(path, tmp_path, monkeypatch):
    config = yaml.safe_load((ROOT / path).read_text())
    verb, make, overrides = how_to_shrink(path, config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lkd.shipped.FOLDER", tmp_path / "configs")  # recipes are the shrunk ones here
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    make()
    Path("configs").mkdir(exist_ok=True)
    Path("configs/networks").symlink_to(ROOT / "configs/networks")
    if path.stem != "digits":  # in a process of its own, as for users
        monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    made = recipes_of(config)
    for checkpoint, recipe in made:
        shrunk_recipe(recipe)
        keep(checkpoint, recipe)
    main([verb, "--config", str(ROOT / path), *words(overrides)])
    names = check_results(config)
    if verb == "fit":
        # private clients keep their losses
        assert any(name.startswith(("train/", "distillation/", "privacy/epsilon")) for name in names)
    for checkpoint, recipe in made:
        assert Path(checkpoint).is_file() and not Path(checkpoint + ".old").exists()
        keep(checkpoint, recipe)
    assert not [p for p in (tmp_path / "data").rglob("*.log")] and not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=extras(path)) for path in COMPRESSIONS]
)
def test_a_compression_runs_to_its_end(path, tmp_path, monkeypatch):
    """Of the student whose configuration it names, untrained, and kept whatever it says; files are timed for a moment."""
    pytest.importorskip("onnxscript")
    config = yaml.safe_load((ROOT / path).read_text())
    student = Path(config["student"])
    trained_by = yaml.safe_load((ROOT / student).read_text())
    _, make, overrides = how_to_shrink(student, trained_by)
    overrides |= SHRUNK_COMPRESSION.get(path.stem, {})
    monkeypatch.setattr("lkd.edge.latency.LEAST", 0.0)
    monkeypatch.setattr("lkd.edge.latency.RUNS", 5)
    monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lkd.shipped.FOLDER", tmp_path / "configs")  # recipes are the shrunk ones here
    monkeypatch.syspath_prepend(tmp_path)
    make()
    Path("configs").mkdir()
    Path("configs/networks").symlink_to(ROOT / "configs/networks")
    labeled = {"data.unlabeled": False} if "unlabeled" in trained_by["data"]["init_args"] else {}
    fit = {**labeled, "distillation": None, "test_after_fit": False, "save_as": config["ckpt_path"]}
    main(["fit", "--config", str(ROOT / student), *words({**overrides, **fit})])
    config["limits"] = {"max_drop": 2.0, "allow_slower": True}
    config["student"] = str(ROOT / student)
    for step in config["steps"]:
        for term in step["init_args"].get("distillation", []):
            if recipe := term["init_args"]["teacher"].get("recipe"):
                shrunk_recipe(recipe)
                keep(term["init_args"]["teacher"]["model"], recipe)
        small = {"epochs": 1, "batches": 1, "calibration": 2}
        step["init_args"] |= {name: value for name, value in small.items() if name in step["init_args"]}
    Path("small.yaml").write_text(yaml.safe_dump(config))
    main(["compress", "--config", "small.yaml", *words({**overrides, "folder": "out"})])
    with Path("out/stages.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + len(config["steps"])
    assert all(row["kept"].startswith(("yes", "no: not run")) for row in rows)
    assert list(Path("out").glob("student*.onnx")) and Path("out/stages.png").is_file()


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=extras(path)) for path in CASCADES])
def test_a_cascade_is_measured(path, tmp_path, monkeypatch):
    """Of the student whose configuration it names, untrained, whose boxes may give no gate anything to go by."""
    config = yaml.safe_load((ROOT / path).read_text())
    student = Path(config["student"])
    _, make, overrides = how_to_shrink(student, yaml.safe_load((ROOT / student).read_text()))
    monkeypatch.chdir(tmp_path)
    make()
    labeled = {"data.unlabeled": False, "distillation": None, "test_after_fit": False}
    main(
        [
            "fit",
            "--config",
            str(ROOT / student),
            *words({**overrides, **labeled, "save_as": config["ckpt_path"]}),
        ]
    )
    config |= {"student": str(ROOT / student), "draws": 2, "folder": "out"}
    Path("small.yaml").write_text(yaml.safe_dump(config))
    try:
        main(["offload", "--config", "small.yaml", *words(overrides)])
    except SystemExit as error:
        assert "is met by no threshold" in str(error)
    with Path("out/curves.csv").open(newline="") as file:
        arms = {row["arm"] for row in csv.DictReader(file)}
    assert arms >= {"device-only", "server-only", "random", "learned", "camera mean", "oracle"}
    assert Path("out/curves.png").is_file()


@needs_yolo
def test_the_twins_of_the_oracle_learn_from_labels_and_have_the_same_table(tmp_path, monkeypatch):
    """The command that configs/cnrpark/oracle.yaml gives for them, on the same days and cameras."""
    path = Path("configs/cnrpark/oracle.yaml")
    config = yaml.safe_load((ROOT / path).read_text())
    monkeypatch.chdir(tmp_path)
    _, make, small = how_to_shrink(path, config)
    make()
    twins = ["--distillation=null", "--data.unlabeled=false"]
    assert all(word in (ROOT / path).read_text() for word in twins)
    main(["fit", "--config", str(ROOT / path), *words({**small, "trainer.limit_test_batches": 1.0}), *twins])
    names = check_results({**config, "distillation": None})
    assert "train/loss" in " ".join(names) and not any(name.startswith("distillation/") for name in names)
    with Path("runs/cnrpark_oracle/version_0/report/table.csv").open(newline="") as file:
        rows = {row["Camera"]: row["mAP50"] for row in csv.DictReader(file)}
    assert rows.keys() == {"C1", "C2", "all"} and all(rows.values())


PUBLISHED = [p for p in CONFIGS if p.stem.startswith("cifar100_") and p.stem.endswith(("kd", "dist", "crd"))]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_published_figure_stands_beside_the_loss_that_runs(path):
    """The first word of a config is the term that it trains with."""
    text = (ROOT / path).read_text()
    terms = yaml.safe_load(text)["distillation"]["init_args"].get("terms", [{"class_path": "KD"}])
    assert text.split()[1].strip(",") == terms[0]["class_path"]


@pytest.mark.parametrize("path", ARMS, ids=lambda path: path.stem)
def test_ways_to_share_the_work_side_by_side(path, tmp_path, monkeypatch):
    """Of the student whose configuration it names, and of networks that their recipes train."""
    config = yaml.safe_load((ROOT / path).read_text())
    student = Path(config["student"])
    trained_by = yaml.safe_load((ROOT / student).read_text())
    _, make, overrides = how_to_shrink(student, trained_by)
    monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    monkeypatch.chdir(tmp_path)
    make()
    Path("configs").mkdir()
    for recipe in {recipe for _, recipe in recipes_of(trained_by)} | {
        arm["init_args"]["recipe"] for arm in config["arms"] if "recipe" in arm["init_args"]
    }:
        shrunk_recipe(recipe)
    fit = {"test_after_fit": False, "save_as": config["ckpt_path"]}
    main(["fit", "--config", str(ROOT / student), *words({**overrides, **fit})])
    config["student"] = str(ROOT / student)
    Path("offload.yaml").write_text(yaml.safe_dump(config))
    try:
        main(["offload", "--config", "offload.yaml", "--folder=out"])
    except SystemExit as error:  # of networks that know nothing
        assert "is met by no threshold" in str(error)
    with Path("out/curves.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    bits = next(arm["init_args"]["bits"] for arm in config["arms"] if arm["class_path"] == "Bottleneck")
    sizes = [float(rows[f"split, {each} bits"]["kB"]) for each in bits]
    assert sizes == sorted(sizes, reverse=True) and all(sizes)
    assert {"device-only", "server-only", "learned", "oracle"} <= rows.keys()
    assert any(name.startswith("early exit") for name in rows) and any(
        name.startswith("exit 0") for name in rows
    )
    assert all((float(row["device MMACs"]) > 0) == (name != "server-only") for name, row in rows.items())


def test_the_parking_study_runs_without_the_extra():
    free = {path for path in CONFIGS if not extras(path)}
    assert {
        Path("configs/parking/oracle_torchvision.yaml"),
        Path("configs/classification/digits.yaml"),
    } <= free
    assert (
        Path("configs/parking/oracle.yaml") not in free and Path("configs/parking/crosskd.yaml") not in free
    )


def test_there_are_configs():
    assert len(CONFIGS) >= 5 and Path("configs/traffic/oracle.yaml") in CONFIGS


def test_a_config_that_nobody_taught_to_shrink_is_noticed():
    for name in ("configs/new/one.yaml", "configs/one.yaml"):
        with pytest.raises(pytest.fail.Exception, match="SHRINK"):
            how_to_shrink(Path(name))


@needs_yolo
def test_the_study_on_its_nine_sample_frames(tmp_path, monkeypatch):
    """One frame a camera and day: five days, so five cameras, are learned from, and two others are tested."""
    data = Path(os.environ.get("LKD_DATA", "data")).resolve()
    if not (data / "cnrpark_ext").is_dir() or not (data / "weights/yolo11n.pt").is_file():
        pytest.skip(f"no cnrpark_ext and weights in {data}: set LKD_DATA to where they are")
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(data)
    overrides = {
        **SMALL_TRAINER,
        "data.teacher_size": 640,
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": 1.0,
        "trainer.check_val_every_n_epoch": 1,  # a checkpoint is saved after it
    }
    path = ROOT / "configs/cnrpark/oracle.yaml"
    main(["fit", "--config", str(path), *words(overrides)])
    check_results(yaml.safe_load(path.read_text()))
    with Path("runs/cnrpark_oracle/version_0/report/table.csv").open(newline="") as file:
        rows = {(row["Role"], row["Camera"]): float(row["mAP50"] or "nan") for row in csv.DictReader(file)}
    assert {camera for _, camera in rows} == {*(f"C{k}" for k in range(1, 10)), "all"}
    assert min(rows[role, "all"] for role in ("Teacher", "Student")) > 0.1  # both do find cars
    path = Path("runs/cnrpark_oracle/version_0/checkpoints/last.ckpt")
    weights = torch.load(path, weights_only=True)["state_dict"]
    bias = {
        name.split(".")[2]: value
        for name, value in weights.items()
        if re.search(r"copies\.C\d\.net\.model\.22\.cv3\.0\.2\.bias$", name)
    }
    assert len(bias) == 9
    assert {name for name, value in bias.items() if not torch.equal(value, bias["C9"])} == {
        *("C1", "C2", "C3", "C7", "C8")  # the cameras of the first five days; the others are as they began
    }


@needs_yolo
def test_traffic_cameras_on_real_frames_with_real_weights(tmp_path, monkeypatch):
    data = Path(os.environ.get("LKD_DATA", "data")).resolve()
    if not (data / "traffic_cams").is_dir() or not (data / "weights/yolo11n.pt").is_file():
        pytest.skip(f"no traffic_cams and weights in {data}: set LKD_DATA to where they are")
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(data)
    overrides = {"data.image_size": 160, "data.teacher_size": 320, "trainer.max_epochs": 1, **SMALL_TRAINER}
    overrides |= {"trainer.limit_train_batches": 3}
    path = ROOT / "configs/traffic/oracle.yaml"
    main(["fit", "--config", str(path), *words(overrides)])
    check_results(yaml.safe_load(path.read_text()))
    report = Path("runs/traffic_oracle/version_0/report/table.csv")
    with report.open(newline="") as file:
        rows = {(row["Role"], row["Camera"]): row["mAP50"] for row in csv.DictReader(file)}
    seen = [float(rows[role, "all"]) for role in ("Teacher", "Student")]
    assert min(seen) > 0.1  # both do find vehicles
