"""Torchvision's detectors behind lkd's protocol: against torchvision's own forward, whose resizing is set to none."""

import copy
import io
import pickle
import socket

import pytest
import torch
from torchvision.models.detection import transform

from lkd.models import PerCamera, TorchvisionDetector

HEADS = ("ssdlite", "fcos", "retinanet")
SIZE = (64, 96)


def network(head="fcos", backbone="test_resnet", **options):
    torch.manual_seed(0)
    return TorchvisionDetector(head, backbone, **{"num_classes": 2, "channels": 64, **options})


def own(head):
    """With torchvision's own backbone."""
    return network(head, None, channels=256)


def images(batch=2, size=SIZE, seed=0):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def targets():
    boxes = torch.tensor([[4.0, 8.0, 36.0, 40.0], [50.0, 10.0, 90.0, 60.0]])
    return [{"boxes": boxes, "labels": torch.tensor([0, 1])}, nothing()]


def nothing():
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def as_torchvision(ours, size=SIZE):
    """The same network as torchvision runs it, told to leave images of this size as they are."""
    net = copy.deepcopy(ours.net)
    mean, std = net.transform.image_mean, net.transform.image_std
    fixed = {"size_divisible": 1, "fixed_size": size[::-1]} if ours.background else {}
    net.transform = transform.GeneralizedRCNNTransform(min(size), max(size), mean, std, **fixed)
    return net


def shifted(labeled, by):
    return [{**one, "labels": one["labels"] + by} for one in labeled]


# torchvision's own ResNet-50 takes too long, and differs from a timm backbone in nothing that is compared
@pytest.mark.parametrize(("head", "make"), [*((head, network) for head in HEADS), ("ssdlite", own)])
def test_loss_is_torchvisions_own(head, make):
    ours = make(head).train()
    reference = as_torchvision(ours).train()
    ours_terms = ours.loss(ours(images()), targets())
    terms = reference(list(images()), shifted(targets(), ours.background))
    names = {"box": "bbox_regression", "cls": "classification", "centerness": "bbox_ctrness"}
    assert {names[name] for name in ours_terms} == set(terms)
    for name, term in ours_terms.items():
        torch.testing.assert_close(term, terms[names[name]])
    sum(ours_terms.values()).backward()
    sum(terms.values()).backward()
    for (name, p), q in zip(ours.net.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


@pytest.mark.parametrize("head", HEADS)
def test_boxes_are_torchvisions_own_in_pixels_of_the_input(head):
    ours = network(head).eval()
    with torch.no_grad():
        for weight in ours.net.head.parameters():  # new ones say the same everywhere
            weight.add_(torch.randn(weight.shape), alpha=0.05)
        outputs = ours(images())
    threshold = ours.decode(outputs, 0.0, 1.0)[0]["scores"].median().item()
    reference = as_torchvision(ours).eval()
    reference.score_thresh, reference.nms_thresh, reference.detections_per_img = threshold, 0.4, 7
    wanted = reference(list(images()))
    found = ours.decode(outputs, threshold, 0.4, 7)
    assert ours.net.score_thresh != threshold  # the network itself has not been touched
    for one, other in zip(found, wanted, strict=True):
        assert 0 < len(one["labels"]) <= 7 and (one["scores"].diff() <= 0).all()
        torch.testing.assert_close(one["boxes"], other["boxes"])
        torch.testing.assert_close(one["scores"], other["scores"])
        assert torch.equal(one["labels"] + ours.background, other["labels"])
        assert (one["boxes"] <= torch.tensor([96, 64, 96, 64])).all() and (one["boxes"] >= 0).all()


@pytest.mark.parametrize("head", ["ssdlite", "fcos"])  # a RetinaNet needs hundreds of steps
def test_it_learns_where_a_rectangle_is(head):
    """On pictures longer than wide, which a resize or a swap of sides would show."""
    ours, labeled, pictures = network(head, num_classes=1), [], images(seed=1) * 0.2
    for k, picture in enumerate(pictures):
        x, y = 8 + 40 * k, 6 + 20 * k
        picture[:, y : y + 28, x : x + 32] = 0.9
        labeled.append({"boxes": torch.tensor([[x, y, x + 32.0, y + 28.0]]), "labels": torch.tensor([0])})
    optimizer = torch.optim.AdamW(ours.parameters(), lr=0.003)
    for _ in range(20):
        loss = sum(ours.loss(outputs := ours(pictures), labeled).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for one, target in zip(ours.decode(outputs, 0.1), labeled, strict=True):
        assert one["scores"][0] > 0.5 and (one["boxes"][0] - target["boxes"][0]).abs().max() < 4


@pytest.mark.parametrize("head", HEADS)
def test_images_without_boxes_are_right(head):
    ours = network(head)
    terms = ours.loss(ours(images()), [nothing(), nothing()])
    assert terms["box"] == 0 and all(term.isfinite() for term in terms.values())
    assert (terms["cls"] > 0) == (head != "ssdlite")  # SSD takes three negatives an object
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in ours.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_a_box_without_an_area_is_left_out_and_one_that_is_inverted_refused(head):
    ours, flat = network(head).eval(), targets()
    flat[0] = {
        "boxes": torch.cat([flat[0]["boxes"], torch.tensor([[9.0, 9.0, 9.0, 20.0]])]),
        "labels": torch.tensor([0, 1, 1]),
    }
    outputs = ours(images())
    with pytest.warns(UserWarning, match=r"without an area \(here 1 of 3\) are left out"):
        terms = ours.loss(outputs, flat)
    torch.testing.assert_close(terms, ours.loss(outputs, targets()))
    flat[0]["boxes"][2] = torch.tensor([9.0, 9.0, 4.0, 20.0])
    with pytest.raises(ValueError, match=r"the box \[9.0, 9.0, 4.0, 20.0\] ends before it begins"):
        ours.loss(outputs, flat)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[0].update(labels=torch.tensor([0, 2])), r"labels \[2\] are outside the classes 0..1"),
        (lambda t: t[0].update(boxes=t[0]["boxes"] * float("nan")), "not finite"),
        (lambda t: t.pop(), "holds 1 dicts"),
        (lambda t: t[0].update(scores=torch.ones(2)), r"do not weigh boxes: take hard .*soft=false"),
    ],
)
def test_bad_targets(change, message):
    ours, bad = network().eval(), targets()
    change(bad)
    with pytest.raises(ValueError, match=message):
        ours.loss(ours(images()), bad)


@pytest.mark.parametrize("head", HEADS)
def test_pixels_stay_exact_in_half_precision(head):
    ours = network(head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = ours(images())
        terms = ours.loss(outputs, targets())
    assert outputs["cls_logits"].dtype == torch.bfloat16
    assert torch.equal(outputs["anchors"], ours(images())["anchors"])
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_one_image_whose_coarsest_map_is_one_cell_cannot_train_batch_norms():
    ours = network("ssdlite")
    with pytest.raises(
        ValueError, match=r"\(1, 3, 64, 96\) leaves batch norms .*two images or more.*freeze_batchnorm"
    ):
        ours(images(1))
    ours.eval()(images(1))
    network("fcos")(images(1))  # has group norms in its head


def test_images_of_other_sizes():
    for head in ("fcos", "retinanet"):
        with pytest.raises(ValueError, match=r"multiples of 32, got shape \(2, 3, 60, 64\)"):
            network(head)(images(size=(60, 64)))
    assert len(network("ssdlite")(images(size=(60, 64)))["sizes"]) == 2
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got \(2, 1, 64, 64\)"):
        network()(torch.zeros(2, 1, 64, 64))


@pytest.mark.parametrize("head", HEADS)
def test_copies_pickles_and_architecture(head):
    ours = network(head, anchor_scale=1.0 if head == "fcos" else 0.5, class_names=["a", "b"])
    ours.loss(ours(images()), targets())["cls"].backward()
    wanted = ours.eval()(images())
    again = TorchvisionDetector(**ours.architecture).eval()
    again.load_state_dict(ours.state_dict())
    buffer = io.BytesIO(pickle.dumps(ours))
    for other in (copy.deepcopy(ours), pickle.load(buffer), again):
        outputs = other(images())
        assert torch.equal(outputs["cls_logits"], wanted["cls_logits"])
        assert torch.equal(outputs["anchors"], wanted["anchors"])
        assert other.class_names == ["a", "b"]


@pytest.mark.parametrize("head", HEADS)
def test_a_copy_per_camera(head):
    ours = network(head).eval()
    copies = PerCamera(ours, ["C1", "C2"]).eval()
    mixed, alone = copies(images(), ["C2", "C1"]), ours(images())
    torch.testing.assert_close(ours.loss(mixed, targets()), ours.loss(alone, targets()))
    assert torch.equal(mixed["anchors"], alone["anchors"]) and torch.equal(mixed["sizes"], alone["sizes"])
    torch.testing.assert_close(mixed["bbox_regression"], alone["bbox_regression"])


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "test_convnext", "test_efficientnet"])
def test_other_backbones(backbone):
    ours = network("retinanet", backbone, channels=16)
    assert ours.net.backbone.strides == [8, 16, 32, 64, 128]
    sum(ours.loss(ours(images()), targets()).values()).backward()


def test_smaller_anchors():
    whole, half = (network("retinanet", anchor_scale=s)(images())["anchors"] for s in (1.0, 0.5))
    assert (whole[0, 2] - whole[0, 0]) == pytest.approx(2 * (half[0, 2] - half[0, 0]), abs=2)
    whole, half = (network("ssdlite", anchor_scale=s)(images())["anchors"] for s in (1.0, 0.5))
    assert (whole[0, 2] - whole[0, 0]) == pytest.approx(2 * (half[0, 2] - half[0, 0]))


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    for head in HEADS:
        with torch.device("meta"):
            assert len(list(TorchvisionDetector(head).parameters())) > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "yolo"}, "head='yolo' must be 'ssdlite'"),
        ({"num_classes": 0}, "num_classes=0 must be 1 or more: the background is not counted"),
        ({"backbone": "resnet18d0"}, r"backbone='resnet18d0' is no timm model; near ones: .*resnet18d"),
        (
            {"backbone": "swin_tiny_patch4_window7_224"},
            r"gives no feature maps .*images of any size .*convolutional",
        ),
        ({"head": "fcos", "channels": 48}, "channels=48 must be a multiple of 32"),
        ({"head": "fcos", "channels": 32}, "from 64 on"),
        ({"backbone": None, "channels": 64}, r"channels=64 is of the pyramid over a timm backbone: name one"),
        ({"head": "fcos", "anchor_scale": 2.0}, "anchor_scale=2.0: FCOS has no anchor boxes"),
        ({"head": "retinanet", "anchor_scale": 0.0}, "anchor_scale=0.0: it must be above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**arguments)


def test_one_small_image_has_nothing_to_average():
    ours = own("ssdlite").train()
    with pytest.raises(ValueError, match=r"shape \(1, 3, 64, 96\) leaves batch norms .* two images or more"):
        ours(images(batch=1))
    assert not any(m._forward_pre_hooks for m in ours.modules())
    ours.eval()(images(batch=1))
    for norm in ours.modules():  # one whose batch norms are frozen trains on it
        norm.train(not isinstance(norm, torch.nn.BatchNorm2d))
    ours(images(batch=1))
