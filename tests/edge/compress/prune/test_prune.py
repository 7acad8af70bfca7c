"""Channels go as asked, nothing else goes, and what cannot go is said."""

import copy
import logging
import re

import pytest
import timm
import torch
from torch import nn

from lkd.edge.compress import Prune
from lkd.models import CNN
from lkd.modules import Classifier
from lkd.pruned import KEY, replay

from ....detectors import needs_yolo
from . import subjects as s

KINDS = [
    pytest.param(s.classifier, s.images, id="classifier"),
    pytest.param(s.yolo, s.frames, id="yolo", marks=needs_yolo),
    pytest.param(s.pyramid, lambda: s.frames(size=(64, 96)), id="ssdlite"),
    pytest.param(lambda: s.pyramid("fcos"), s.frames, id="fcos"),
    pytest.param(lambda: Classifier("test_vit", 3, in_channels=1), lambda: [(torch.randn(2, 1, 160, 160), torch.tensor([0, 1]))], id="vit"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "batches"), KINDS)
def test_multiply_accumulates_fall_as_asked_and_it_runs(make, batches):
    module, given = make(), batches()
    dense = copy.deepcopy(module)
    Prune(macs=0.8, batches=1).prune(module, given)
    assert s.share(module, given, dense) == pytest.approx(0.8, rel=0.03)
    before, after = (
        m.forward(given[0]["images"] if isinstance(given[0], dict) else given[0][0]) for m in (dense, module)
    )
    shapes = [{k: v.shape for k, v in o.items() if k != "feats" and isinstance(v, torch.Tensor)} if isinstance(o, dict) else o.shape for o in (before, after)]  # fmt: skip
    assert shapes[0] == shapes[1]
    module.train()
    module.training_step(given[0], 0).backward()


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("importance", ["taylor", "l2"])
def test_every_way_is_deterministic_and_leaves_one_channel_everywhere(scope, importance):
    one, two = s.classifier(), s.classifier()
    for module in (one, two):
        Prune(ratio=0.95, importance=importance, scope=scope).prune(module, s.images())
    assert getattr(one, KEY) == getattr(two, KEY)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]) and tensor.numel()
    assert one.network.grouped.groups == 2
    assert one.network.head.out_features == 3


def test_several_goes_reach_the_same_target():
    torch.manual_seed(0)
    dense = Classifier(CNN(8, 3, channels=[16, 24], in_channels=1), num_classes=3)
    module = copy.deepcopy(dense)
    Prune(macs=0.5, iterations=3).prune(module, s.images())
    assert s.share(module, s.images(), dense) == pytest.approx(0.5, rel=0.03)


def test_what_is_pruned_already_is_pruned_on_with_the_whole_history():
    module = s.classifier()
    Prune(macs=0.8).prune(module, s.images())
    Prune(macs=0.8, importance="l2").prune(module, s.images())
    again = s.classifier(seed=1)
    replay(again, {KEY: getattr(module, KEY)})
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.eval()(s.images()[0][0]), module.eval()(s.images()[0][0]))


def test_taylor_spares_what_the_loss_needs():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([5.0, 0.1, 0.1, 5.0]).reshape(4, 1, 1, 1))
        net[4].weight.copy_(torch.tensor([[0.0, 9.0, -9.0, 0.0], [0.0, -9.0, 9.0, 0.0]]))
    batch = [(torch.rand(6, 1, 2, 2), torch.arange(6) % 2)]
    small, loss = Classifier(copy.deepcopy(net), 2), Classifier(copy.deepcopy(net), 2)
    Prune(ratio=0.5, importance="taylor").prune(loss, batch)
    assert loss.network[0].weight.flatten().tolist() == pytest.approx([0.1, 0.1])
    with torch.no_grad():
        small.network[4].weight.fill_(1.0)
    Prune(ratio=0.5, importance="l2").prune(small, batch)
    assert small.network[0].weight.flatten().tolist() == [5.0, 5.0]


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 12, 3), nn.Conv2d(12, 12, 1)
        self.again, self.head = nn.Conv2d(12, 12, 3), nn.Linear(12, 3)
        self.again.weight = self.one.weight

    def forward(self, x):
        x = self.one(self.stem(x).relu()).relu()
        return self.head(self.two(self.again(x)).relu().mean((2, 3)))


class Normed(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.stem, self.mid, self.back = nn.Conv2d(1, 8, 1), norm(nn.Conv2d(8, 12, 3)), nn.Conv2d(12, 6, 1)
        self.deep, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 3)

    def forward(self, x):
        x = self.back(self.mid(self.stem(x).relu()).relu()).relu()
        return self.head(self.deep(x).relu().mean((2, 3)))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.back = nn.Conv2d(1, 16, 3), nn.GLU(1), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.back(self.gate(self.stem(x))).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (Sharing, ["network.one", "network.again"]),
        (lambda: Normed(nn.utils.parametrizations.weight_norm), ["network.mid"]),
        (lambda: Normed(nn.utils.parametrizations.spectral_norm), ["network.mid"]),
        (lambda: Normed(nn.utils.spectral_norm), ["network.mid"]),
        (Gated, ["network.stem"]),
    ],
    ids=["shared", "weight_norm", "spectral_norm", "older", "GLU"],
)
def test_a_layer_that_can_lose_nothing_is_named_and_may_be_ignored(make, names):
    module = Classifier(make(), num_classes=3)
    before = {name: tensor.shape for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(f"ignore={names}")):
        Prune(ratio=0.4, importance="l2").prune(module, s.images())
    assert {name: tensor.shape for name, tensor in module.state_dict().items()} == before
    if make is Sharing:
        return  # all that is left there goes through the shared weight
    Prune(ratio=0.4, importance="l2", ignore=names).prune(module, s.images())
    assert {name: tensor.shape for name, tensor in module.state_dict().items()} != before
    assert module(s.images()[0][0]).shape == (8, 3)


@needs_yolo
def test_frames_without_labels_are_enough():
    module = s.yolo()
    Prune(macs=0.8).prune(module, s.frames(labeled=False))
    assert hasattr(module, KEY)


def test_copies_of_cameras_stay_of_one_architecture():
    module = s.detector(cameras=["C1", "C2"])
    Prune(macs=0.8).prune(module, [*s.frames(), *s.frames(cameras=("C2", "C2"))])
    shapes = [[p.shape for p in network.parameters()] for network in module.networks()]
    assert shapes[0] == shapes[1]
    module.eval()(torch.rand(2, 3, 64, 64), ["C1", "C2"])


def test_of_a_client_of_several_modalities_only_encoders_that_can_be_followed():
    module, dense = s.of_sensors(), s.of_sensors()
    Prune(ratio=0.3).prune(module, s.windows())
    encoders = module.network.encoders
    assert encoders["acc"][0].out_channels < 8
    assert encoders["acc"][3].out_channels < 8 and module.network.projections["acc"].out_features == 8
    assert encoders["gyro"].second.hidden_size == 5 and encoders["gyro"].first.out_channels == 6
    assert module(s.windows()[0][0]).shape == dense(s.windows()[0][0]).shape


def test_heads_of_attention_go_as_wholes():
    module = Classifier("test_vit", 3, in_channels=1)
    Prune(ratio=0.5, scope="local").prune(module, [(torch.randn(2, 1, 160, 160), torch.tensor([0, 1]))])
    attention = module.network.blocks[0].attn
    whole = timm.create_model("test_vit").blocks[0].attn
    assert attention.num_heads == whole.num_heads // 2
    assert (
        attention.proj.in_features == attention.num_heads * whole.head_dim == attention.qkv.out_features // 3
    )


def test_layers_to_ignore_keep_their_channels():
    module = s.classifier()
    Prune(ratio=0.6, ignore=["network.stem", "network.left"]).prune(module, s.images())
    assert module.network.stem[0].out_channels == 12 and module.network.left.out_channels == 8
    assert module.network.right.out_channels < 8


def test_numbers_of_channels_are_multiples():
    module = s.classifier()
    Prune(ratio=0.4, round_to=4, scope="local").prune(module, s.images())
    assert module.network.left.out_channels == module.network.right.out_channels == 8
    assert module.network.stem[0].out_channels == 8


class Mean(nn.Module):
    """Normalizes over channels, which no layer tells."""

    def __init__(self):
        super().__init__()
        self.first, self.mixing, self.last = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, x):
        x = self.mixing(self.first(x)).mean((2, 3))
        return self.last((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 0.1))


def test_a_layer_whose_channels_are_more_than_channels_is_named():
    module = Classifier(Mean(), 3)
    with pytest.raises(
        ValueError, match=r"channels of 'network.mixing' cannot be taken out.*ignore=\['network.mixing'\]"
    ):
        Prune(ratio=0.5, scope="local").prune(module, s.images())
    Prune(ratio=0.5, ignore=["network.mixing"]).prune(Classifier(Mean(), 3), s.images())


def test_what_cannot_be_reached_is_said():
    with pytest.raises(
        ValueError, match=r"macs=0.001 cannot be reached: .* one left of each, 0\.\d+ of them are left"
    ):
        Prune(macs=0.001).prune(s.classifier(), s.images())
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 3)), 3)
    with pytest.raises(ValueError, match=r"macs=0.8 is not reached within 3%: \d\.\d+ of them"):
        Prune(macs=0.8).prune(flat, s.images())
    with pytest.raises(ValueError, match=r"ratio=0.1 of 2 channels is none of them"):
        Prune(ratio=0.1).prune(flat, s.images())
    with pytest.raises(ValueError, match="Classifier has no channels that can go"):
        Prune(ratio=0.1).prune(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 3), s.images())
    with pytest.raises(ValueError, match=r"ignore: Classifier has no layer 'stem'; it begins with network"):
        Prune(ratio=0.1, ignore=["stem"]).prune(s.classifier(), s.images())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "macs=None and ratio=None: give one"),
        ({"macs": 1.5}, r"macs=1.5 must be in \(0, 1\).*it is a share"),
        ({"ratio": 0.0}, r"ratio=0.0 must be in \(0, 1\)"),
        ({"macs": 0.5, "iterations": 0}, "iterations=0"),
        ({"macs": 0.5, "batches": 0}, "batches=0"),
        ({"macs": 0.5, "importance": "l3"}, "'taylor' or 'l2'"),
        ({"macs": 0.5, "scope": "here"}, "'global' or 'local'"),
    ],
)
def test_numbers_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        Prune(**options)


def test_it_says_what_is_left(caplog):
    with caplog.at_level(logging.INFO, "lkd"):
        Prune(macs=0.7).prune(s.classifier(), s.images())
    assert "pruned to 7" in caplog.text or "pruned to 6" in caplog.text
