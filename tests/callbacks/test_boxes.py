"""BoxDistillation: losses against ones computed by hand, runs without labels, resume, and mistakes."""

import copy
import math

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from lkd.callbacks import EMA, BoxDistillation, WarmUp
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import CWD, DenseDetection
from lkd.models import YOLO
from lkd.modules import Detector
from lkd.taps import Call
from lkd.teachers import CachedTeacher, Teacher

from ..detectors import both, needs_yolo
from ..roads import oracle, write_roads
from .detection import attached as attached_to
from .detection import first_batch, roads
from .plain import quick_trainer, seeded

COUNT = 4  # frames a camera


class Oracle(YOLO):
    """A network that also finds every bright rectangle; notes the images that it was given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def forward(self, images):
        self.seen.append(("dense", tuple(images.shape)))
        return super().forward(images)

    def detect(self, images):
        self.seen.append(("boxes", tuple(images.shape)))
        return oracle(images)


def nothing(images):
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
    return [dict(empty) for _ in images]


def narrow():
    """YOLOv8 with eight channels or a few more: a teacher of other widths, or a student that is soon copied."""
    architecture = copy.deepcopy(YOLO("yolov8n.yaml").architecture)
    return architecture | {"scales": {"n": [0.33, 0.0625, 1024]}}


def student(network="yolov8n.yaml", **options):
    return seeded(0, lambda: Detector(network, num_classes=1, **options))


def student_of(kind):
    return seeded(0, lambda: Detector(**kind()))


def network_teacher(architecture="yolov8n.yaml", kind=Oracle):
    return seeded(1, lambda: kind(architecture, num_classes=1))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"), count=COUNT)


def attached(callback, batch, module=None):
    return attached_to(callback, batch, module or student())


def own_loss(module, outputs, targets):
    return sum(module.loss(outputs, targets).values())


def unscored(found):
    return [{key: each[key] for key in ("boxes", "labels")} for each in found]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("hard", "dense", "feature"), [(1, 0, 0), (0, 2, 0), (0, 0, 3), (0.5, 2, 0), (0.5, 2, 3)]
)
@needs_yolo
def test_loss_equals_the_one_by_hand(root, alpha, hard, dense, feature):
    batch = first_batch(root)
    for target in batch["targets"]:  # a truth other than the teacher's
        target["boxes"] = target["boxes"] * 0.9
    teacher, module = network_teacher(), student()
    by_hand = copy.deepcopy(module)
    outputs = by_hand(batch["images"])
    with torch.no_grad():
        theirs = teacher.eval()(batch["images"])
    parts = {
        "truth": own_loss(by_hand, outputs, batch["targets"]),
        "hard": own_loss(by_hand, outputs, unscored(oracle(batch["images"]))),
        "dense": DenseDetection(temperature=3.0)(outputs, theirs),
        "feature": CWD()(outputs["feats"], theirs["feats"]),
    }
    kd = hard * parts["hard"] + dense * parts["dense"] + feature * parts["feature"]
    wanted = alpha * parts["truth"] + (1 - alpha) * kd
    wanted.backward()

    callback = BoxDistillation(Teacher(teacher), alpha, hard, dense, feature, temperature=3.0)
    module, logs = attached(callback, batch, module)
    loss = module.training_step(batch, 0)
    loss.backward()
    torch.testing.assert_close(loss, wanted)
    for (name, ours), reference in zip(module.named_parameters(), by_hand.parameters(), strict=True):
        if reference.grad is not None:
            gradient = torch.zeros_like(ours) if ours.grad is None else ours.grad
            torch.testing.assert_close(gradient, reference.grad, rtol=1e-3, atol=1e-4, msg=name)
    if alpha == 0 or (1 - alpha) * hard > 0:  # otherwise there is no need for the second forward
        assert logs["distillation/relabeled"] == pytest.approx(parts["hard"].item(), rel=1e-4)
    if dense:
        assert logs["distillation/densedetection"] == pytest.approx(parts["dense"].item(), rel=1e-4)
    if feature:
        assert logs["distillation/cwd"] == pytest.approx(parts["feature"].item(), rel=1e-4)
    # what the module logs itself is its loss on the labels it learns from
    assert logs["train/loss"] == pytest.approx(parts["truth" if alpha else "hard"].item(), rel=1e-4)


@both
def test_gradient_reaches_the_student_without_labels(kind, root):
    batch = first_batch(root, unlabeled=True)
    assert "targets" not in batch
    module, _ = attached(BoxDistillation(Teacher(oracle)), batch, student_of(kind))
    module.training_step(batch, 0).backward()
    missing = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert next(module.parameters()).grad.abs().sum() > 0


@both
def test_labels_that_are_garbage_do_no_harm_to_a_run_without_labels(kind, tmp_path):
    write_roads(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        path.write_text("0 nan nothing \x00")
    module, before = student_of(kind), student_of(kind).state_dict()
    trainer = quick_trainer(callbacks=[BoxDistillation(Teacher(oracle))])
    trainer.fit(module, datamodule=roads(tmp_path, unlabeled=True))
    assert trainer.global_step == 2
    assert any(not torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(ValueError, match=r"labels/cam"):  # they are garbage to whoever reads them
        roads(tmp_path).setup("fit")


@pytest.mark.parametrize("sees", ["batch", "frame"])
@both
def test_a_teacher_that_finds_nothing_gives_a_finite_loss(kind, root, sees):
    trainer = quick_trainer(callbacks=[BoxDistillation(Teacher(nothing), sees=sees)])
    trainer.fit(student_of(kind), datamodule=roads(root, unlabeled=True))
    logged = trainer.callback_metrics
    assert trainer.global_step == 2 and math.isfinite(logged["distillation/total"])
    assert logged["train/box"] == 0 and logged["train/cls"] > 0


@needs_yolo
def test_dense_targets_of_a_teacher_that_finds_nothing_are_finite_too(root):
    batch = first_batch(root, unlabeled=True)
    teacher = network_teacher(kind=YOLO)  # untrained: its best score is far below the threshold
    assert max(f["scores"].max().item() for f in teacher.eval().detect(batch["images"])) < 0.45
    module, _ = attached(BoxDistillation(Teacher(teacher), hard=1.0, dense=1.0, feature=1.0), batch)
    assert module.training_step(batch, 0).isfinite()


@needs_yolo
def test_dense_targets_come_from_the_students_view_and_boxes_from_the_teachers(root):
    """At another resolution the anchors would not line up."""
    teacher = network_teacher()
    data = roads(root, unlabeled=True, teacher_size=192)
    quick_trainer(callbacks=[BoxDistillation(Teacher(teacher), dense=1.0)]).fit(student(), datamodule=data)
    assert set(teacher.seen) == {("dense", (2, 3, 96, 96)), ("boxes", (2, 3, 160, 192))}


@pytest.mark.parametrize("architecture", ["yolov8n.yaml", "narrow"])
@needs_yolo
def test_adapters_are_there_only_where_widths_differ(root, architecture):
    teacher = network_teacher(narrow() if architecture == "narrow" else architecture)
    module, _ = attached(BoxDistillation(Teacher(teacher), hard=0.0, feature=1.0), first_batch(root))
    assert bool(len(getattr(module, ADAPTERS))) is (architecture == "narrow")
    module.training_step(first_batch(root), 0).backward()
    for parameter in getattr(module, ADAPTERS, nn.Module()).parameters():
        assert parameter.grad.abs().sum() > 0


@needs_yolo
def test_frames_are_seen_once_in_a_whole_run(root):
    teacher = network_teacher()
    data = roads(root, unlabeled=True, teacher_size=192, crop=(0.5, 1.0))
    callback = BoxDistillation(Teacher(teacher), sees="frame")
    trainer = quick_trainer(callbacks=[callback], max_epochs=3)
    trainer.fit(student(narrow()), datamodule=data)
    assert sum(shape[0] for _, shape in teacher.seen) == COUNT  # half of the frames of two cameras
    assert {shape[1:] for _, shape in teacher.seen} == {(3, 160, 192)}
    assert trainer.global_step == 6 and trainer.callback_metrics["train/box"] > 0


@both
def test_a_callable_as_torchvision_has_them(kind, root):
    """In eval mode torchvision's detectors return dicts of boxes, labels and scores, in this order."""

    class Torchvision(nn.Module):
        def forward(self, images):
            assert not self.training
            return [
                {"boxes": f["boxes"], "labels": f["labels"], "scores": f["scores"]} for f in oracle(images)
            ]

    batch = first_batch(root)
    losses = []
    for teacher in (Torchvision(), oracle):
        module, _ = attached(BoxDistillation(Teacher(teacher)), batch, student_of(kind))
        losses.append(module.training_step(batch, 0))
    assert torch.equal(*losses)


class Together:
    """One student a camera, with EMA, warm-up and adapters."""

    @staticmethod
    def callbacks():
        teacher = Teacher(network_teacher(narrow()))
        distillation = BoxDistillation(teacher, hard=1.0, dense=1.0, feature=1.0)
        return [EMA(decay=0.9, tau=3), distillation, WarmUp(steps=3)]

    @classmethod
    def run(cls, root, folder, epochs, checkpoint=None):
        wide = copy.deepcopy(narrow())
        wide["scales"] = {"n": [0.33, 0.125, 1024]}
        module = student(wide, cameras=["camA", "camB"], optimizer=lambda p: torch.optim.AdamW(p, lr=0.01))
        trainer = quick_trainer(
            callbacks=cls.callbacks(), max_epochs=epochs, enable_checkpointing=True, default_root_dir=folder
        )
        trainer.fit(module, datamodule=roads(root, unlabeled=True), ckpt_path=checkpoint)
        return module, torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True), trainer


@needs_yolo
def test_one_student_a_camera_with_averaging_and_warm_up_resumes_bit_for_bit(root, tmp_path):
    whole, last, _ = Together.run(root, tmp_path, 4)
    _, half, trainer = Together.run(root, tmp_path, 2)
    resumed, again, _ = Together.run(root, tmp_path, 4, trainer.checkpoint_callback.best_model_path)
    assert half["global_step"] == 4 and again["global_step"] == last["global_step"] == 8
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for key in ("state_dict", "current_model_state", ADAPTERS):
        assert last[key].keys() == again[key].keys() and last[key]
        assert all(torch.equal(last[key][name], again[key][name]) for name in last[key]), key
    moved = {
        name.split(".")[2]
        for name, v in whole.state_dict().items()
        if not torch.equal(v, half["state_dict"][name])
    }
    assert moved == {"camA", "camB"}


@needs_yolo
@pytest.mark.parametrize("kind", [Teacher, CachedTeacher])
def test_dense_outputs_of_a_teacher_with_a_copy_a_camera_are_those_of_each_image_s_camera(
    root, kind, tmp_path
):
    theirs = student(narrow(), cameras=["camA", "camB"])
    with torch.no_grad():
        for tensor in theirs.network.copies["camB"].parameters():
            tensor.mul_(1.1)  # copies that agree would hide a mix-up
    images, cameras = torch.rand(3, 3, 64, 64), ["camB", "camA", "camB"]
    theirs.eval()
    with torch.no_grad():
        wanted = [
            theirs.network.copies[name](image[None])["scores"]
            for name, image in zip(cameras, images, strict=True)
        ]
    options = (str(tmp_path / "cache"),) if kind is CachedTeacher else ()
    for size in (None, 1):
        teacher = kind(copy.deepcopy(theirs), *options, batch_size=size)
        for _ in range(2):
            told = teacher(Call((images, cameras), {}))["scores"]
            assert torch.allclose(told, torch.cat(wanted), atol=1e-5)
        one = teacher(Call((), {"images": images, "cameras": ["camA"] * 3}))["scores"]
        assert torch.allclose(one[1], wanted[1][0], atol=1e-5) and not torch.allclose(one[0], told[0])
    callback = BoxDistillation(kind(copy.deepcopy(theirs), *options), hard=0.0, dense=1.0)
    module = student(narrow(), cameras=["camA", "camB"])
    quick_trainer(callbacks=[callback], max_epochs=1).fit(module, datamodule=roads(root, unlabeled=True))


class Mistakes:
    """No weight may have changed."""

    @staticmethod
    def fit(callback, data, module=None):
        module = module or student(narrow())
        before, trainer = copy.deepcopy(list(module.parameters())), quick_trainer(callbacks=[callback])
        try:
            trainer.fit(module, datamodule=data)
        finally:
            assert trainer.global_step == 0
            assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


@pytest.mark.parametrize("weights", [{"hard": 1.0}, {"hard": 0.0, "dense": 1.0}])
@needs_yolo
def test_a_teacher_of_other_classes_is_refused_before_training(root, weights):
    teacher = Teacher(YOLO(narrow(), num_classes=3))
    with pytest.raises(ValueError, match=r"teacher has 3 classes, the student 1.*class_map"):
        Mistakes.fit(BoxDistillation(teacher, **weights), roads(root, unlabeled=True))


@needs_yolo
def test_a_detector_as_teacher_says_its_classes_too(root):
    with pytest.raises(ValueError, match=r"teacher has 2 classes, the student 1"):
        Mistakes.fit(BoxDistillation(Teacher(Detector(narrow(), num_classes=2))), roads(root))


@needs_yolo
def test_frames_need_a_datamodule_that_serves_them(root):
    class Other(LightningDataModule):
        def train_dataloader(self):
            return DataLoader([first_batch(root)], batch_size=None)

    with pytest.raises(ValueError, match=r"serve_whole_frames\(\), and Other has none; use sees='batch'"):
        Mistakes.fit(BoxDistillation(Teacher(oracle), sees="frame"), Other())
    trainer = quick_trainer(callbacks=[BoxDistillation(Teacher(oracle), sees="batch")])
    trainer.fit(student(narrow()), datamodule=Other())  # which any datamodule will do for
    assert trainer.global_step == 1


@pytest.mark.parametrize("weights", [{"hard": 1.0}, {"hard": 0.0, "dense": 1.0}])
@needs_yolo
def test_nan_stops_before_training(root, weights):
    batch = first_batch(root)
    batch["images"][0, 0, 0, 0] = math.nan

    class Broken(LightningDataModule):
        def train_dataloader(self):
            return DataLoader([batch], batch_size=None)

    with pytest.raises(FloatingPointError, match="not finite"):
        Mistakes.fit(BoxDistillation(Teacher(network_teacher(narrow())), **weights), Broken())


@needs_yolo
def test_a_run_that_breaks_off_serves_views_again(root):
    def broken(*args, **kwargs):
        raise RuntimeError("power cut")

    data, module = roads(root, unlabeled=True, teacher_size=192), student(narrow())
    module.optimizer_step = broken
    callback = BoxDistillation(Teacher(network_teacher()), sees="frame")
    with pytest.raises(RuntimeError, match="power cut"):
        quick_trainer(callbacks=[callback]).fit(module, datamodule=data)
    assert callback.labels.frames is None
    assert "teacher_images" in next(iter(data.train_dataloader()))  # left out while whole frames are served


@needs_yolo
def test_a_teacher_that_is_not_wrapped_is_refused():
    with pytest.raises(TypeError, match=r"teacher=Oracle must be a Teacher; wrap it"):
        BoxDistillation(network_teacher())


@needs_yolo
def test_a_run_that_breaks_off_leaves_the_module_as_it_was(root):
    module = student(narrow())

    def broken(*args, **kwargs):
        raise RuntimeError("power cut")

    module.optimizer_step = broken
    callback = BoxDistillation(Teacher(network_teacher()), feature=1.0)
    with pytest.raises(RuntimeError, match="power cut"):
        quick_trainer(callbacks=[callback]).fit(module, datamodule=roads(root))
    del module.optimizer_step
    assert "training_step" not in vars(module) and not hasattr(module, ADAPTERS)
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(module, datamodule=roads(root))
    assert trainer.global_step == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -0.1}, r"alpha=-0\.1 must be in \[0, 1\]"),
        ({"alpha": 1.1}, r"alpha=1\.1 must be in \[0, 1\]"),
        ({"hard": -1.0}, r"hard=-1\.0.*0 or more"),
        ({"hard": 0.0}, r"hard=0\.0, dense=0\.0, feature=0\.0.*one above 0"),
        ({"sees": "video"}, "sees='video' must be 'batch' or 'frame'"),
        ({"score_threshold": 2.0}, r"score_threshold=2\.0"),
        ({"temperature": 0.0, "dense": 1.0}, "temperature=.* must be above 0"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        BoxDistillation(Teacher(oracle), **options)
