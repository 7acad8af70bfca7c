"""CrossKD between YOLO detectors of other widths and families, built from yaml: no weights are needed."""

import copy
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn

if find_spec("ultralytics") is None:  # not imported here: lkd's adapter does it without its side effects
    pytest.skip('needs the extra: pip install "lightning-kd[yolo]"', allow_module_level=True)

from lkd.callbacks import Distillation
from lkd.datamodules import YoloFolder
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import CrossKD
from lkd.models import YOLO
from lkd.modules import Detector
from lkd.taps import Taps
from lkd.teachers import Teacher

from ..callbacks.plain import quick_trainer, seeded
from ..roads import write_roads

SIDES = (8, 4, 2)  # of the maps of images of 64 pixels


def family(name, width):
    """An architecture that is as deep as the smallest of its family, and narrower: 256 `width` channels at stride 8."""
    architecture = copy.deepcopy(YOLO(f"{name}n.yaml").architecture)
    return architecture | {"scales": {"n": [*architecture["scales"]["n"][:1], width, 1024]}}


def student(width=0.0625, classes=2):
    return seeded(0, lambda: Detector(family("yolov8", width), num_classes=classes))


def network(name="yolov8", width=0.125, classes=2, class_map=None):
    architecture = family(name, width) | {"nc": classes}
    made = seeded(1, lambda: YOLO(architecture, class_map=class_map))
    for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # the plain mean, and so batch statistics as after training: a fresh network says next to nothing
    made.train()(batch(8)["images"])
    for number, last in enumerate(branch[-1] for branch in (*made.head.cv3, *made.head.cv2)):
        seeded(number, lambda last=last: nn.init.normal_(last.weight, std=0.5))
        nn.init.zeros_(last.bias)
    return made.eval()


def layers(prefix, branch, block=0):
    return [f"{prefix}.{branch}.{level}.{block}" for level in range(3)]


def term(head=22, block=0, **options):
    """After the first block of each branch; `head` is the teacher's last layer."""
    ours, theirs = "network.net.model.22", f"net.model.{head}"
    names = {
        "student_scores": layers(ours, "cv3", block),
        "teacher_scores": layers(theirs, "cv3", block),
        "student_boxes": layers(ours, "cv2", block),
        "teacher_boxes": layers(theirs, "cv2", block),
    }
    return CrossKD(**(names | options))


def batch(count=2):
    return {"images": torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))}


def attached(callback, module):
    logs = {}
    module.log = lambda name, value, **_: logs.update({name: value.item()})
    callback.distiller.attach(module, batch())
    return module, logs


def unlabeled(teacher, *terms):
    return Distillation(Teacher(teacher), list(terms) or [term()], alpha=0.0, input_key="images")


@pytest.mark.parametrize("block", [0, 1])
@pytest.mark.parametrize(("name", "head"), [("yolov8", 22), ("yolo11", 23)])
def test_what_follows_a_layer_is_how_the_teacher_goes_on(name, head, block):
    net = network(name)
    teacher, images = Teacher(net), batch()["images"]
    made = term(head, block)
    with torch.no_grad(), Taps(net, ["", *made.teacher_layer]) as taps:
        net(images)
    answers = [
        teacher.part(part)(taps.output(at)) for part, at in zip(made.rest, made.teacher_layer, strict=True)
    ]
    scores, boxes = (torch.cat([a.flatten(2) for a in half], 2) for half in (answers[:3], answers[3:]))
    torch.testing.assert_close(scores, taps.output("")["scores"])
    torch.testing.assert_close(boxes, taps.output("")["boxes"])


def by_hand(module, adapter, net, images):
    """The loss with the heads taken apart, and a softmax over bins written out."""
    feats, theirs = ([f for f in n(images)["feats"]] for n in (module.network, net))
    cross, target = {"cv3": [], "cv2": []}, {"cv3": [], "cv2": []}
    for number, (branch, level) in enumerate([(b, k) for b in ("cv3", "cv2") for k in range(3)]):
        ours, head = getattr(module.network.head, branch)[level], getattr(net.head, branch)[level]
        s, t = adapter[number](ours[0](feats[level])), head[0](theirs[level])
        statistics = [(x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)) for x in (s, t)]
        (s_mean, s_std), (t_mean, t_std) = statistics
        aligned = (s - s_mean) / s_std * t_std + t_mean
        cross[branch].append(head[2](head[1](aligned)).flatten(2))
        target[branch].append(head[2](head[1](t)).flatten(2))
    z, t = torch.cat(cross["cv3"], 2), torch.cat(target["cv3"], 2).detach().sigmoid()
    qfl = ((z.sigmoid() - t).abs() * F.binary_cross_entropy_with_logits(z, t, reduction="none")).sum()
    q, kl = t.amax(1), 0.0
    b, c = torch.cat(cross["cv2"], 2), torch.cat(target["cv2"], 2).detach()
    for side in range(4):
        rows = slice(16 * side, 16 * side + 16)
        p, wanted = b[:, rows].log_softmax(1), c[:, rows].softmax(1)
        kl = kl + (q * (wanted * (wanted.log() - p)).sum(1)).sum() / 4
    return (qfl + 4 * kl) / q.sum()


@pytest.mark.parametrize(("name", "head"), [("yolov8", 22), ("yolo11", 23)])
def test_loss_and_gradients_equal_those_with_the_heads_taken_apart(name, head):
    net = network(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    module, logs = attached(unlabeled(net, term(head)), student())
    adapter = getattr(module, ADAPTERS)["crosskd"]
    assert [type(m).__name__ for m in adapter] == ["Conv2d"] * 3 + [
        "Identity"
    ] * 3  # boxes have 64 in every YOLO
    assert [(m.in_channels, m.out_channels) for m in adapter[:3]] == [(16, 32)] * 3
    twin = copy.deepcopy(module)
    module.training_step(batch(), 0).backward()

    reference = by_hand(twin, getattr(twin, ADAPTERS)["crosskd"], net, batch()["images"])
    reference.backward()
    assert logs["distillation/crosskd"] == pytest.approx(reference.item(), rel=1e-4) and reference > 0.05
    largest = max(p.grad.abs().max() for p in twin.parameters() if p.grad is not None)
    for (key, p), other in zip(module.named_parameters(), twin.parameters(), strict=True):
        if other.grad is None:
            assert p.grad is None or not p.grad.any(), key
        else:
            torch.testing.assert_close(p.grad, other.grad, rtol=1e-2, atol=1e-4 * float(largest), msg=key)
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    ours = module.network
    for level in range(3):  # gradient reaches the backbone and the first blocks, and stops there
        for branch in (ours.head.cv2[level], ours.head.cv3[level]):
            assert branch[0].conv.weight.grad.any()
            assert all(p.grad is None or not p.grad.any() for p in branch[1:].parameters())
    assert ours.net.model[0].conv.weight.grad.abs().max() > 1e-6


def test_a_teacher_that_is_the_student_itself_has_nothing_to_say():
    net, other = network(width=0.0625), network(width=0.0625)
    nn.init.normal_(other.net.model[0].conv.weight)
    values = []
    for teacher in (net, other):
        module = student()
        module.network.load_state_dict(net.state_dict())
        module.eval()  # as the teacher is
        module, logs = attached(unlabeled(copy.deepcopy(teacher)), module)
        module.training_step(batch(), 0)
        assert not len(getattr(module, ADAPTERS))
        values.append(logs["distillation/crosskd"])
    assert abs(values[0]) < 1e-4 < 0.05 < values[1]


def test_classes_are_the_teachers():
    """The student may look for others; a class map keeps rows of the teacher's own."""
    mapped = network(classes=5, class_map={0: 0, 3: 0, 4: 0})
    assert (mapped.num_classes, mapped.head.nc) == (1, 3)
    for net in (network(classes=5), mapped):
        module, logs = attached(unlabeled(net), student())
        module.training_step(batch(), 0)
        assert logs["distillation/crosskd"] > 0.05


def test_labels_and_a_teacher_together_train_a_detector(tmp_path):
    data = YoloFolder(
        str(write_roads(tmp_path, count=4)),
        image_size=64,
        batch_size=2,
        fractions=(0.5, 0.0, 0.5),
        color=0.0,
    )
    module = student(classes=1)
    before = copy.deepcopy(module.state_dict())
    callback = Distillation(
        Teacher(network(classes=1)), [term()], input_key="images"
    )  # the student sees cameras, too
    quick_trainer(max_epochs=2, callbacks=[callback]).fit(module, datamodule=data)
    assert module.state_dict().keys() == before.keys()
    moved = {
        k for k, v in module.state_dict().items() if v.is_floating_point() and not torch.equal(v, before[k])
    }
    assert {f"network.net.model.22.{b}.{k}.2.weight" for b in ("cv2", "cv3") for k in range(3)} <= moved


def test_images_of_another_size_are_refused():
    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network().net

        def forward(self, images):
            return self.net(F.interpolate(images, scale_factor=2))

    with pytest.raises(
        ValueError, match=r"student's maps are of size \(8, 8\), the teacher's \(16, 16\): .*one size"
    ):
        attached(unlabeled(Double().eval()), student())
