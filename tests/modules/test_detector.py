"""Detector: steps, logs, freezing, cameras, checkpoints; trained for a few steps on drawn images."""

import copy
import math
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningCLI

from lkd.metrics import DetectionTable
from lkd.modules import Detector
from lkd.teachers import Teacher

from ..detectors import both, fcos, logits, needs_yolo

DATA = Path(os.environ.get("LKD_DATA", "data"))


def frames(count=4, seed=0, size=64):
    """Images with one or two bright rectangles, a quarter of the side or so, on a dark ground."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, size, size, generator=generator) * 0.2
    targets = []
    for image in images:
        boxes = []
        for column in range(1 + int(torch.randint(2, (), generator=generator))):
            x, y = (torch.rand(2, generator=generator) * size * 0.2).round().int().tolist()
            x += column * size // 2
            w, h = (size * (0.2 + torch.rand(2, generator=generator) * 0.1)).round().int().tolist()
            image[:, y : y + h, x : x + w] = torch.tensor([0.9, 0.6, 0.3]).view(3, 1, 1)
            boxes.append([x, y, x + w, y + h])
        targets.append({"boxes": torch.tensor(boxes).float(), "labels": torch.zeros(len(boxes)).long()})
    return images, targets


def batch(count=4, seed=0, cameras=None, size=64):
    images, targets = frames(count, seed, size)
    return {"images": images, "targets": targets, "cameras": cameras or ["C1"] * count}


def terms_of(detector):
    """Names of the terms of its loss."""
    data = batch(2)
    return detector.loss(detector(data["images"]), data["targets"])


class Data(LightningDataModule):
    """Two batches."""

    def __init__(self, cameras: int = 1):
        super().__init__()
        self.batches = [batch(2, seed, [f"C{1 + seed % cameras}"] * 2) for seed in range(2)]

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


def trainer(**options):
    return Trainer(**QUIET, enable_checkpointing=False, **options)


def fit(detector, **options):
    made = trainer(max_epochs=1, **options)
    made.fit(detector, datamodule=Data())
    return made


@needs_yolo
def test_overfits_four_images():
    seed_everything(0, verbose=False)
    detector, data = Detector("yolov8n.yaml"), batch(size=128)
    optimizer = detector.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(40):
        outputs = detector(data["images"])
        loss = sum(detector.loss(outputs, data["targets"]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * max(losses)
    table = DetectionTable()
    table.update(
        detector.decode(outputs), data["targets"]
    )  # with batch statistics: the running ones lag behind
    assert table.compute()[-1]["map50"] > 0.9


@both
def test_logs_and_results(kind):
    made = trainer(max_epochs=1, num_sanity_val_steps=1)
    detector = Detector(**kind())
    made.fit(detector, datamodule=Data(cameras=2))
    terms = [made.callback_metrics[f"train/{name}"] for name in terms_of(detector)]
    assert made.callback_metrics["train/loss"] == pytest.approx(sum(terms).item(), rel=1e-5)
    assert {"val/map50", "val/map", "val/map50/C1", "val/map50/C2"} <= made.callback_metrics.keys()
    assert {"train/loss", "val/map50"} <= made.progress_bar_metrics.keys()
    (logged,) = made.test(detector, datamodule=Data(), verbose=False)
    assert {"test/map50", "test/map", "test/map50/C1"} == set(logged)
    predicted = made.predict(detector, datamodule=Data())
    assert len(predicted) == 2
    assert predicted[0][0].keys() == {"boxes", "scores", "labels"}
    assert isinstance(detector.test_step(batch()), list)


@both
def test_validation_of_the_module_agrees_with_its_detections(kind):
    detector = Detector(**kind()).eval()
    perfect = batch()
    detector.detect = lambda images, cameras: [
        {**target, "scores": torch.ones(len(target["labels"]))} for target in perfect["targets"]
    ]
    made = trainer()
    (logged,) = made.validate(detector, dataloaders=torch.utils.data.DataLoader([perfect], batch_size=None))
    assert logged["val/map50"] == pytest.approx(1)
    assert logged["val/map"] == pytest.approx(1)


@both
def test_detections_of_every_image_fit_the_thresholds(kind):
    detector = Detector(**kind(score_threshold=0.0, iou_threshold=1.0, max_detections=5)).eval()
    found = detector.detect(batch()["images"])
    assert [len(each["boxes"]) for each in found] == [5] * 4


@needs_yolo
def test_freeze_layers_and_their_statistics():
    detector = Detector("yolov8n.yaml", freeze=10)
    before = copy.deepcopy(detector.state_dict())
    fit(detector)
    for name, value in detector.state_dict().items():
        layer = int(name.split(".")[3])
        if layer < 10:
            assert torch.equal(value, before[name]), name
        elif layer < 22 and name.endswith(("weight", "running_mean")):
            assert not torch.equal(value, before[name]), name
    frozen = [module for layer in detector.network.net.model[:10] for module in layer.modules()]
    assert not any(module.training for module in frozen)
    norms = [module for module in detector.network.net.model[12].modules() if hasattr(module, "running_mean")]
    assert norms
    assert all(module.training for module in norms)


@needs_yolo
def test_freeze_batchnorm_trains_the_affine_part_only():
    detector = Detector("yolov8n.yaml", freeze_batchnorm=True)
    before = copy.deepcopy(detector.state_dict())
    fit(detector)
    norm = "network.net.model.0.bn."
    after = detector.state_dict()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[norm + name], before[norm + name])
    assert not torch.equal(after[norm + "weight"], before[norm + "weight"])
    assert detector.training
    assert not detector.eval().train().network.net.model[0].bn.training


def test_freeze_and_batch_norms_of_torchvisions(tmp_path):
    detector = Detector(**fcos(), freeze=2, freeze_batchnorm=True)
    before = copy.deepcopy(detector.state_dict())
    fit(detector)
    frozen = {name for k in (0, 1) for name, _ in detector.network.layers[k].named_parameters()}
    assert frozen and not any(
        module.training for layer in detector.network.layers[:2] for module in layer.modules()
    )
    after = detector.state_dict()
    still = {name for name in after if torch.equal(after[name], before[name])}
    running = {
        name for name in after if name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    assert running and running <= still
    assert all(torch.equal(p, before[n]) for n, p in detector.named_parameters() if not p.requires_grad)
    moved = {name for name, p in detector.named_parameters() if p.requires_grad} - still
    assert any(".bn" in name for name in moved) and any("head.regression_head" in name for name in moved)


@needs_yolo
def test_parameter_groups():
    detector = Detector("yolov8n.yaml", freeze=1)
    decay, plain = detector.configure_optimizers()["optimizer"].param_groups
    assert decay["weight_decay"] == 0.0005
    assert plain["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    assert all(names[id(p)].endswith("weight") and p.ndim > 1 for p in decay["params"])
    assert all("bn." in names[id(p)] or names[id(p)].endswith("bias") for p in plain["params"])
    trainable = [p for p in detector.parameters() if p.requires_grad]
    assert len(decay["params"]) + len(plain["params"]) == len(trainable)
    assert not any(
        "dfl" in names[id(p)] or "model.0." in names[id(p)] for p in decay["params"] + plain["params"]
    )


@both
def test_one_student_per_camera(kind):
    detector = Detector(**kind(cameras=["C1", "C2"]))
    data = batch(2, cameras=["C2", "C2"])
    before = copy.deepcopy(detector.state_dict())
    made = trainer(max_epochs=1)
    made.fit(detector, torch.utils.data.DataLoader([data], batch_size=None))
    after = detector.state_dict()
    changed = {name.split(".")[2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"C2"}
    detector.eval()
    mixed = detector(batch(2)["images"], ["C2", "C1"])
    for row, name in enumerate(["C2", "C1"]):
        alone = detector.network.copies[name](batch(2)["images"])
        torch.testing.assert_close(logits(mixed)[row], logits(alone)[row])
    detector.loss(mixed, batch(2)["targets"])


@both
def test_unlabeled_batch_and_bad_labels(kind):
    detector, data = Detector(**kind()), batch()
    with pytest.raises(ValueError, match=r"unlabeled .*BoxDistillation.*unlabeled=false"):
        detector.training_step({"images": data["images"], "cameras": data["cameras"]})
    with pytest.raises(ValueError, match="needs labels"):
        detector.validation_step({"images": data["images"], "cameras": data["cameras"]})
    data["targets"][0]["labels"] += 1
    for step in (detector.training_step, detector.validation_step, detector.test_step):
        with pytest.raises(ValueError, match=r"labels \[1\] are outside the classes 0..0"):
            step(data)


@both
def test_images_with_nan_stop_training(kind):
    data = batch()
    data["images"][0, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="loss is not finite"):
        Detector(**kind()).training_step(data)


@pytest.mark.parametrize("options", [{"freeze": 99}, {"freeze": -1}, {"cameras": ["a.b"]}])
@both
def test_bad_options(kind, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Detector(**kind(**options))


@both
def test_everything_frozen(kind):
    with pytest.raises(ValueError, match="nothing to train"):
        Detector(**kind(freeze=len(Detector(**kind()).network.layers))).configure_optimizers()


@both
def test_scheduler_steps_once_an_epoch(kind):
    detector = Detector(
        **kind(),
        optimizer=lambda params: torch.optim.SGD(params, lr=1e-4),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
    )
    made = fit(detector)
    assert [group["lr"] for group in made.optimizers[0].param_groups] == [5e-5] * 2


@needs_yolo
def test_checkpoint_rebuilds_without_the_pt(tmp_path):
    path = DATA / "weights" / "yolo11n.pt"
    if not path.is_file():
        pytest.skip(f"no weights at {path}; set LKD_DATA")
    local = tmp_path / "net.pt"
    local.write_bytes(path.read_bytes())
    detector = Detector(str(local), class_map={2: 0, 5: 0, 7: 0}, freeze=10)
    local.unlink()
    made = trainer()
    made.strategy.connect(detector)
    made.save_checkpoint(tmp_path / "d.ckpt")
    again = Detector.load_from_checkpoint(tmp_path / "d.ckpt", weights_only=True).eval()
    x = batch()["images"]
    assert torch.equal(again(x)["scores"], detector.eval()(x)["scores"])
    assert again.hparams["freeze"] == 10
    assert detector.hparams_initial["network"] == str(local)  # what loggers show


def cli(arguments):
    return LightningCLI(
        LightningModule,
        Data,
        subclass_mode_model=True,
        auto_configure_optimizers=False,
        seed_everything_default=1,
        save_config_callback=None,
        trainer_defaults=QUIET,
        args=arguments,
    )


YAML = """
model:
  class_path: lkd.modules.Detector
  init_args:
    cameras: [C1]
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}
    scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 4}}
"""
YOLO = """
    network: yolov8n.yaml
    class_map: {2: 0, 5: 0, 7: 0}
"""
FCOS = """
    class_names: [car]
    network:
      class_path: lkd.models.TorchvisionDetector
      init_args: {head: fcos, backbone: test_resnet, channels: 64}
"""


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
@pytest.mark.parametrize(
    "network", [pytest.param(YOLO, marks=needs_yolo, id="yolo"), pytest.param(FCOS, id="fcos")]
)
def test_command_line_run_resume_and_reload(network, tmp_path):
    (tmp_path / "config.yaml").write_text(YAML + network[1:])
    base = ["fit", "--config", str(tmp_path / "config.yaml"), f"--trainer.default_root_dir={tmp_path}"]
    whole = cli([*base, "--trainer.max_epochs=2"])
    groups = whole.trainer.optimizers[0].param_groups
    assert [group["initial_lr"] for group in groups] == [0.001] * 2
    assert groups[0]["lr"] == pytest.approx(0.001 * (1 + math.cos(math.pi / 2)) / 2)
    cli([*base, "--trainer.max_epochs=1"]).trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = cli([*base, "--trainer.max_epochs=2", f"--ckpt_path={tmp_path / 'half.ckpt'}"])
    assert resumed.trainer.optimizers[0].param_groups[0]["lr"] == groups[0]["lr"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    resumed.trainer.save_checkpoint(tmp_path / "end.ckpt")
    stored = torch.load(tmp_path / "end.ckpt", weights_only=True)["hyper_parameters"]
    assert "optimizer" not in stored
    assert stored["_class_path"] == "lkd.modules.Detector"
    x = batch(2)["images"]
    for load in (Detector.load_from_checkpoint, LightningModule.load_from_checkpoint):
        again = load(tmp_path / "end.ckpt", weights_only=True).eval()
        assert torch.equal(logits(again(x, ["C1"] * 2)), logits(resumed.model.eval()(x, ["C1"] * 2)))
        assert again.class_names == resumed.model.class_names
    assert Teacher(str(tmp_path / "end.ckpt")).loaded.num_classes == 1


def test_a_checkpoint_made_in_python_rebuilds_torchvisions(tmp_path):
    detector = Detector(**fcos(), class_names=["car"], freeze=1)
    made = trainer()
    made.strategy.connect(detector)
    made.save_checkpoint(tmp_path / "d.ckpt")
    again = Detector.load_from_checkpoint(tmp_path / "d.ckpt", weights_only=True).eval()
    x = batch()["images"]
    assert torch.equal(logits(again(x)), logits(detector.eval()(x)))
    assert again.class_names == ["car"] and again.freeze_layers == 1


def first(detector):
    """The weights of its first layer."""
    return next(detector.networks()[0].parameters())


@both
def test_every_student_starts_from_another_detectors_weights(kind, tmp_path):
    other = Detector(**kind())
    torch.save({"state_dict": other.state_dict()}, tmp_path / "teacher.ckpt")
    students = Detector(**kind(cameras=["C1", "C2"], start=str(tmp_path / "teacher.ckpt")))
    assert not torch.equal(first(students), first(other))  # not before fit
    students.setup("fit")
    for student in students.networks():
        for ours, theirs in zip(student.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(ours, theirs)


@both
def test_a_detector_starts_from_the_server_of_a_federation_and_not_anew_where_it_is_loaded(kind, tmp_path):
    other = Detector(**kind())
    state = {f"model.{name}": tensor for name, tensor in other.state_dict().items()}
    torch.save({"state_dict": state, "federation": {}}, tmp_path / "federation.ckpt")
    detector = Detector(**kind(start=str(tmp_path / "federation.ckpt")))
    detector.setup("fit")
    assert torch.equal(first(detector), first(other))
    again = Detector(**kind(start=str(tmp_path / "federation.ckpt")))
    again.on_load_checkpoint({})
    again.setup("fit")
    assert not torch.equal(first(again), first(other))


@both
def test_weights_to_start_from_that_are_missing_or_do_not_fit(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"start='gone\.ckpt' does not exist"):
        Detector(**kind(start="gone.ckpt")).setup("fit")
    Detector(**kind(start="gone.ckpt")).setup("test")  # only training starts from it
    torch.save({"state_dict": Detector(**kind(num_classes=3)).state_dict()}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="does not fit this network"):
        Detector(**kind(start=str(tmp_path / "x.ckpt"))).setup("fit")
