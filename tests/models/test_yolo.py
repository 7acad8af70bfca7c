"""The Ultralytics adapter: against ultralytics used directly, and on real weights and frames."""

import builtins
import copy
import io
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if find_spec("ultralytics") is None:  # not imported here: lkd's adapter does it without its side effects
    pytest.skip('needs the extra: pip install "lightning-kd[yolo]"', allow_module_level=True)

from lkd.losses import decode_boxes
from lkd.models import YOLO
from lkd.models.yolo_import import ultralytics_tasks

DATA = Path(os.environ.get("LKD_DATA", "data"))
VEHICLES = {2: 0, 5: 0, 7: 0}


def weights(name="yolo11n"):
    path = DATA / "weights" / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"no weights at {path}; set LKD_DATA")
    return str(path)


def images(batch=2, size=(64, 96), seed=0):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def targets():
    return [
        {
            "boxes": torch.tensor([[4.0, 8.0, 36.0, 40.0], [50.0, 10.0, 90.0, 60.0]]),
            "labels": torch.tensor([0, 1]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov10n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
def test_outputs_agree_with_ultralytics_own_decoding(name):
    network = YOLO(name, num_classes=2).eval()
    x = images()
    with torch.no_grad():
        outputs = network(x)
        reference = copy.deepcopy(network.net)
        reference.eval()  # its head then decodes
        own, _ = reference(x)
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    reg_max = 1 if "26" in name else 16
    assert outputs["scores"].shape == (2, 2, anchors)
    assert outputs["boxes"].shape == (2, 4 * reg_max, anchors)
    assert [f.shape[-2:] for f in outputs["feats"]] == [(8, 12), (4, 6), (2, 3)]
    center, size = own[:, :2].transpose(1, 2), own[:, 2:4].transpose(1, 2)
    corners = torch.cat((center - size / 2, center + size / 2), dim=2)
    torch.testing.assert_close(decode_boxes(outputs), corners, atol=1e-4, rtol=1e-4)  # of a pixel
    torch.testing.assert_close(outputs["scores"].sigmoid(), own[:, 4:])


def test_train_mode_returns_the_same_kind_of_outputs():
    network = YOLO("yolov8n.yaml", num_classes=1)
    assert network.training
    assert network(images()).keys() == network.eval()(images()).keys()


def test_loss_agrees_with_ultralytics_own_loss():
    network = YOLO("yolov8n.yaml", num_classes=2)
    x, labeled = images(), targets()
    terms = network.loss(network.eval()(x), labeled)
    from ultralytics.cfg import get_cfg

    network.net.args = get_cfg()
    network.net.train()
    for module in network.net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    boxes = labeled[0]["boxes"]
    xywh = torch.stack([boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], 1) / 2
    xywh = torch.cat([xywh, boxes[:, 2:] - boxes[:, :2]], 1) / torch.tensor([96.0, 64.0, 96.0, 64.0])
    batch = {"img": x, "cls": torch.tensor([[0.0], [1.0]]), "bboxes": xywh, "batch_idx": torch.zeros(2)}
    wanted, _ = network.net.loss(batch)
    torch.testing.assert_close(torch.stack([terms["box"], terms["cls"], terms["dfl"]]), wanted / 2)


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo26n.yaml"])
def test_loss_trains_every_parameter_and_only_cls_without_objects(name):
    network = YOLO(name, num_classes=2)
    terms = network.loss(network(images()), targets())
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    frozen = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ([] if "26" in name else ["net.model.22.dfl.conv.weight"])
    empty = network.loss(network(images()), [targets()[1]] * 2)
    assert empty["box"] == 0
    assert empty["dfl"] == 0
    assert empty["cls"] > 0


def test_loss_is_the_mean_per_image():
    network = YOLO("yolov8n.yaml", num_classes=2).eval()
    x, one = images(1), [targets()[0]]
    single = network.loss(network(x), one)
    double = network.loss(network(x.repeat(2, 1, 1, 1)), one * 2)
    for name in single:  # the criterion normalizes by the objects of the batch, so copies change nothing
        torch.testing.assert_close(single[name], double[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[0].update(labels=torch.tensor([0, 2])), r"labels \[2\] are outside the classes 0..1"),
        (lambda t: t[0].update(labels=torch.tensor([0, -1])), r"labels \[-1\] are outside"),
        (lambda t: t[0]["boxes"].mul_(float("nan")), "not finite"),
        (lambda t: t[0].update(labels=torch.tensor([0.5, 1.0])), "labels are torch.float32"),
        (lambda t: t.pop(), "holds 1 dicts"),
    ],
)
def test_bad_targets(change, message):
    network, bad = YOLO("yolov8n.yaml", num_classes=2), targets()
    bad[0]["boxes"] = bad[0]["boxes"].clone()
    change(bad)
    with pytest.raises(ValueError, match=message):
        network.loss(network(images()), bad)


def test_deepcopy_pickle_and_state_dict():
    network = YOLO("yolov8n.yaml", num_classes=2)
    network.loss(network(images()), targets())["cls"].backward()
    network.eval()
    wanted = network(images())["scores"]
    buffer = io.BytesIO(pickle.dumps(network))
    rebuilt = YOLO(network.architecture).eval()
    rebuilt.load_state_dict(network.state_dict())
    for other in (copy.deepcopy(network), pickle.load(buffer), rebuilt):
        assert torch.equal(other(images())["scores"], wanted)
        other.loss(other.train()(images()), targets())["cls"].backward()


def test_float64_and_bfloat16_autocast():
    network = YOLO("yolov8n.yaml", num_classes=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = network.loss(network(images()), targets())
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_class_map_gives_the_maximum_over_the_mapped_classes():
    full, mapped = YOLO(weights()).eval(), YOLO(weights(), num_classes=1, class_map=VEHICLES).eval()
    x = images(size=(160, 160))
    with torch.no_grad():
        wanted, got = full(x), mapped(x)
    torch.testing.assert_close(got["scores"], wanted["scores"][:, [2, 5, 7]].amax(dim=1, keepdim=True))
    torch.testing.assert_close(got["boxes"], wanted["boxes"])
    merged = {**wanted, "scores": wanted["scores"][:, [2, 5, 7]].amax(dim=1, keepdim=True)}
    for a, b in zip(full.decode(merged, 0.001), mapped.decode(got, 0.001), strict=True):
        torch.testing.assert_close(a, b)
    assert sum(p.numel() for p in mapped.head.cv3[0][-1].parameters()) == 3 * (80 + 1)


def test_class_map_trains_and_rebuilds_without_the_pt():
    network = YOLO(weights("yolov8n"), class_map={2: 1, 5: 1, 0: 0})
    network.loss(network(images()), targets())["cls"].backward()
    assert network.num_classes == 2
    assert network.head.cv3[0][-1].weight.grad.shape[0] == 3
    rebuilt = YOLO(network.architecture).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert torch.equal(rebuilt(images())["scores"], network.eval()(images())["scores"])


def test_finds_cars_in_real_frames():
    pillow, numpy = pytest.importorskip("PIL.Image"), pytest.importorskip("numpy")
    folder = DATA / "traffic_cams" / "images"
    if not folder.is_dir():
        pytest.skip(f"no frames at {folder}; set LKD_DATA")
    from lkd.metrics import DetectionTable

    network, table = YOLO(weights(), class_map=VEHICLES).eval(), DetectionTable()
    for path in sorted(folder.glob("cam[123]_*.jpg"))[::30][:6]:
        frame = pillow.open(path).convert("RGB").resize((640, 352))
        x = torch.from_numpy(numpy.array(frame)).permute(2, 0, 1)[None] / 255
        rows = [
            line.split() for line in (folder.parent / "labels" / f"{path.stem}.txt").read_text().splitlines()
        ]
        rows = torch.tensor([[float(v) for v in row] for row in rows if int(row[0]) < 3]).view(-1, 5)
        center, half = rows[:, 1:3], rows[:, 3:] / 2
        boxes = torch.cat((center - half, center + half), 1) * torch.tensor([640.0, 352.0, 640.0, 352.0])
        with torch.no_grad():
            found = network.decode(network(x), score_threshold=0.001)
        table.update(found, [{"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)}])
    assert table.compute()[-1]["map50"] > 0.6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("yolo8n.yaml",), ValueError, "yolov8n.yaml"),
        (("yolov8n-seg.yaml",), ValueError, "head Segment"),
        (("yolov8n",), ValueError, r"must be a .yaml name"),
        (("nowhere/net.pt",), FileNotFoundError, "never downloaded"),
        (("yolov8n.yaml", 3, {0: 0}), ValueError, "num_classes=3"),
        (("yolov8n.yaml", None, {99: 0}), ValueError, r"map classes 0..79"),
        (("yolov8n.yaml", None, {2: 1}), ValueError, "without gaps"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        YOLO(*arguments)


def test_bad_weights(tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "state.pt")
    torch.save([1], tmp_path / "list.pt")
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "scripted.pt")
    (tmp_path / "empty.pt").touch()
    for name in ("text.pt", "state.pt", "list.pt", "scripted.pt", "empty.pt"):
        with pytest.raises(ValueError, match="not a readable"):
            YOLO(str(tmp_path / name))
    with pytest.raises(ValueError, match=r"num_classes=1, but .* gives 80"):
        YOLO(weights(), num_classes=1)


def saved(path, name, kind="DetectionModel", classes=3, change=lambda model: model):
    """A checkpoint as Ultralytics writes it, of random weights."""
    torch.manual_seed(0)
    model = change(getattr(ultralytics_tasks(), kind)(name, nc=classes, verbose=False))
    torch.save({"epoch": -1, "model": None, "ema": model}, path)
    return model.float().eval()


@pytest.mark.parametrize("name", ["yolov10n.yaml", "yolo26n.yaml"])
def test_weights_with_two_branches_answer_by_the_one_to_many(tmp_path, name):
    path, x = str(tmp_path / "x.pt"), images()
    own = saved(path, name, change=lambda model: model.half())
    own.model[-1].training = True
    network = YOLO(path, class_map={2: 0, 0: 1}).eval()
    with torch.no_grad():
        raw, ours = own(x)["one2many"], network(x)
    torch.testing.assert_close(ours["scores"], raw["scores"][:, [2, 0]])
    torch.testing.assert_close(ours["boxes"], raw["boxes"])
    again = YOLO(network.architecture).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(x)["scores"], ours["scores"])


def test_a_class_map_may_change_the_order_alone():
    network = YOLO("yolov8n.yaml", num_classes=2).eval()
    swapped = YOLO(network.architecture, class_map={0: 1, 1: 0}).eval()
    swapped.load_state_dict(network.state_dict())
    torch.testing.assert_close(swapped(images())["scores"], network(images())["scores"].flip(1))


@pytest.mark.parametrize(
    ("name", "kind", "head"),
    [
        ("yolo11n-seg.yaml", "SegmentationModel", "Segment"),
        ("yolo26n-pose.yaml", "PoseModel", "Pose26"),
        ("yolo11n-obb.yaml", "OBBModel", "OBB"),
        ("yolo11n-cls.yaml", "ClassificationModel", "Classify"),
        ("yolov8s-world.yaml", "WorldModel", "WorldDetect"),
        ("yoloe-11s.yaml", "YOLOEModel", "YOLOEDetect"),
        ("yolov8n-rtdetr.yaml", "RTDETRDetectionModel", "RTDETRDecoder"),
    ],
)
def test_heads_that_give_other_than_boxes_on_a_grid_are_named(tmp_path, name, kind, head):
    saved(tmp_path / "x.pt", name, kind, classes=80)
    for model in (name, str(tmp_path / "x.pt")):
        with pytest.raises(ValueError, match=rf"has the head {head}; lkd needs Detect or v10Detect"):
            YOLO(model)


def test_classes_are_called_as_the_file_says(tmp_path):
    def named(model):
        model.names = {0: "car", 1: "bus", 2: "truck"}
        return model

    saved(tmp_path / "x.pt", "yolov8n.yaml", change=named)
    network = YOLO(str(tmp_path / "x.pt"))
    assert network.class_names == ["car", "bus", "truck"] == YOLO(network.architecture).class_names
    assert (
        YOLO(str(tmp_path / "x.pt"), class_map={0: 0, 2: 0}).class_names is None
    )  # they are not these any more
    saved(tmp_path / "y.pt", "yolov8n.yaml")  # Ultralytics calls them "0", "1", "2" where nobody does
    assert YOLO(str(tmp_path / "y.pt")).class_names is YOLO("yolov8n.yaml").class_names is None


def test_fused_weights_are_refused(tmp_path):
    saved(tmp_path / "x.pt", "yolov10n.yaml", change=lambda model: model.eval().fuse(verbose=False))
    with pytest.raises(ValueError, match="as after fusing for export; give the weights before that"):
        YOLO(str(tmp_path / "x.pt"))


def test_a_damaged_file_with_a_published_name_is_neither_removed_nor_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("yolo11n.pt").touch()
    with pytest.raises(ValueError, match=r"not a readable Ultralytics checkpoint \(.*empty"):
        YOLO("yolo11n.pt")
    assert Path("yolo11n.pt").is_file()


def test_weights_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="not a readable"):
        YOLO(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


def test_bad_image_size():
    with pytest.raises(ValueError, match="multiples of 32"):
        YOLO("yolov8n.yaml", num_classes=1)(torch.zeros(1, 3, 60, 64))


def test_missing_extra_is_one_sentence(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "ultralytics":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "ultralytics.nn.tasks", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'YOLO needs the extra: pip install "lightning-kd\[yolo\]".*AGPL'):
        YOLO("yolov8n.yaml")


def test_import_leaves_the_process_as_it_was():
    program = """
import os, torch, numpy
from PIL import Image
def state():
    shown = repr(torch.full((9,), 1e-3)), repr(numpy.ones(40))
    return dict(os.environ), torch.save, Image.open, shown, torch.get_num_threads()
before = state()
import lkd.models, sys
assert "ultralytics" not in sys.modules
def refuse(*_): raise AssertionError("the network was asked")
import socket; socket.getaddrinfo = socket.create_connection = refuse
lkd.models.YOLO("yolov8n.yaml")
assert "ultralytics" in sys.modules
assert before == state(), (before, state())
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


def test_settings_do_not_sync():
    ultralytics_tasks()
    from ultralytics.utils import SETTINGS

    assert SETTINGS["sync"] is False


def test_soft_pseudo_labels_lie_between_certain_boxes_and_none():
    network, x = YOLO("yolov8n.yaml", num_classes=2), images()
    outputs = network(x)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    hard, none = network.loss(outputs, targets()), network.loss(outputs, [empty, empty])

    def soft(score):
        return network.loss(
            outputs, [{**t, "scores": torch.full((len(t["labels"]),), score)} for t in targets()]
        )

    torch.testing.assert_close(soft(1.0), hard)
    torch.testing.assert_close(soft(0.0), none)
    half = soft(0.5)
    assert 0 < half["box"] and half["cls"] != hard["cls"]
