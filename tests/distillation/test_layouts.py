"""Where channels are: told by the layer, its width, timm or the address, and never guessed."""

import pytest
import timm
import torch
from torch import nn

from lkd.callbacks import FeatureDistillation
from lkd.distillation.layouts import canonical, layout_of
from lkd.teachers import Teacher
from tests.callbacks.plain import quick_trainer
from tests.pictures import Pictures, pictures


class Last(nn.Module):
    """A block that works on (B, H, W, C), as Swin's do."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.act = nn.LayerNorm(width), nn.GELU()

    def forward(self, x):
        return self.act(self.norm(x))


def conv1d(width):
    return nn.Sequential(nn.Conv1d(3, width, 3), nn.BatchNorm1d(width), nn.ReLU())


@pytest.mark.parametrize(
    ("layer", "shape", "layout"),
    [
        (nn.Conv2d(3, 8, 1), (2, 8, 7, 5), "NCHW"),
        (nn.Conv2d(3, 8, 1), (2, 8, 8, 5), "NCHW"),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), (2, 8, 7, 5), "NCHW"),
        (nn.Sequential(nn.Conv2d(3, 9, 1), nn.Conv2d(9, 7, 1)), (2, 56, 7, 7), "NCHW"),
        (Last(16), (2, 7, 5, 16), "NHWC"),
        (nn.Linear(4, 16), (2, 7, 7, 16), "NHWC"),
        (nn.ReLU(), (2, 16, 7, 7), "NCHW"),
        (nn.ReLU(), (2, 16, 7, 5), None),
        (nn.ModuleList([nn.Linear(8, 192), nn.LayerNorm(384)]), (2, 8, 16, 192), "NHWC"),
        (nn.ReLU(), (2, 7, 7, 16), None),
        (conv1d(8), (2, 8, 50), "NCL"),
        (nn.Linear(4, 16), (2, 50, 16), "NLC"),
        (nn.Linear(4, 16), (2, 16, 16), None),
        (nn.TransformerEncoderLayer(16, 2, batch_first=True), (2, 9, 16), "NLC"),
        (nn.TransformerEncoderLayer(16, 2), (9, 2, 16), "LNC"),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2), 1), (9, 2, 16), "LNC"),
        (nn.ReLU(), (2, 8, 50), None),
        (nn.MaxPool1d(2), (2, 8, 50), "NCL"),
        (nn.LSTM(4, 8, bidirectional=True, batch_first=True), (2, 50, 16), "NLC"),
        (nn.LSTM(4, 8, proj_size=5, batch_first=True), (2, 50, 5), "NLC"),
        (nn.GRU(4, 8), (50, 2, 8), "LNC"),
        (nn.Linear(4, 16), (2, 16), None),
    ],
)
def test_what_tells(layer, shape, layout):
    assert layout_of(nn.ModuleDict({"layer": layer}), "layer", torch.zeros(shape)) == layout


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NLC", "NCL", "LNC"])
def test_what_the_address_says_holds(layout):
    value = torch.zeros((2, 16, 16, 16)[: len(layout)])
    net = nn.ModuleDict({"layer": nn.ReLU()})
    assert layout_of(net, f"layer@{layout}", value) == layout
    with pytest.raises(
        ValueError,
        match=rf"layer='layer@{layout}': {layout} has {len(layout)} dimensions, the output is \(2,\)",
    ):
        layout_of(net, f"layer@{layout}", torch.zeros(2))


@pytest.mark.parametrize(("batch_first", "output"), [(False, "LNC"), (True, "NLC")])
def test_samples_come_second_where_torch_has_them_second(batch_first, output):
    net = nn.ModuleDict(
        {
            "rnn": nn.LSTM(4, 8, batch_first=batch_first),
            "attention": nn.MultiheadAttention(8, 2, batch_first=batch_first),
            "encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=batch_first), 1),
        }
    )
    value = torch.zeros(5, 2, 8)
    for address in ("rnn:0", "attention:0", "encoder", "encoder.layers.0.norm2"):
        assert layout_of(net, address, value) == output, address
    assert layout_of(net, "rnn:1:0", value) == "LNC"  # its states are always so
    assert layout_of(net, "attention:1", torch.zeros(2, 5, 5)) != "LNC"  # and its maps never


def test_channels_come_where_losses_look():
    maps, sequence = torch.rand(2, 7, 5, 16), torch.rand(2, 8, 50)
    assert torch.equal(canonical(maps, "NHWC")[1, 3], maps[1, :, :, 3])
    assert torch.equal(canonical(sequence, "NCL")[1, 4], sequence[1, :, 4])
    assert torch.equal(canonical(sequence, "LNC")[4, 1], sequence[1, 4])
    assert (
        canonical(maps, "NCHW") is maps
        and canonical(sequence, "NLC") is sequence
        and canonical(maps, None) is maps
    )


def test_all_that_timm_calls_channels_last():
    images = torch.zeros(1, 3, 64, 64)
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, num_classes=3)
    for layer in ("layers.0", "layers.3", "layers.3.blocks.1", "norm"):
        shape = {}
        handle = swin.get_submodule(layer).register_forward_hook(lambda _, __, out: shape.update(out=out))  # noqa: B023
        swin(images)
        handle.remove()
        assert layout_of(swin, layer, shape["out"]) == "NHWC", layer
    convnext = timm.create_model("convnext_atto", num_classes=3)
    assert layout_of(convnext, "stages.3", convnext.forward_features(images)) == "NCHW"
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=3)
    assert layout_of(vit, "blocks.11", vit.forward_features(images)) == "NLC"


def adapter_of(teacher, layers):
    seen = []

    class Looks(Pictures):
        def on_train_start(self):
            seen.extend(self.distillation_adapters["fitnets"])

    quick_trainer(callbacks=[FeatureDistillation(Teacher(teacher), layers, weight=1.0)]).fit(
        Looks(), pictures()
    )
    return seen[0]


class Channels(nn.Module):
    """Gives maps with channels last from a part without weights."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 24, 4, 4), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(x).permute(0, 2, 3, 1))


def test_an_adapter_maps_channels_to_channels():
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, num_classes=3)
    adapter = adapter_of(swin, {"last": "layers.3"})
    assert (adapter.in_channels, adapter.out_channels) == (32, 768)
    adapter = adapter_of(Channels(), {"last": "act@NHWC"})
    assert (adapter.in_channels, adapter.out_channels) == (32, 24)
    with pytest.raises(
        ValueError, match=r"teacher_layer='act' gives maps \(8, 16, 16, 24\).*'act@NCHW' or 'act@NHWC'"
    ):
        adapter_of(Channels(), {"last": "act"})


def test_sequences_of_which_nothing_tells_are_refused_only_where_it_matters():
    from lkd.distillation.adapters import make_adapters
    from lkd.distillation.pairing import TermPair
    from lkd.losses import FitNets
    from lkd.modules import Classifier

    module = Classifier(nn.Linear(2, 2), num_classes=2)
    same, other = torch.zeros(2, 8, 50), torch.zeros(2, 16, 50)
    assert (
        len(make_adapters(module, [TermPair("fitnets", FitNets(), same, same, ["student_layer='act'"])])) == 0
    )
    with pytest.raises(
        ValueError, match=r"student_layer='act': nothing tells which dimension .*'@NLC'.*'@NCL'"
    ):
        make_adapters(module, [TermPair("fitnets", FitNets(), same, other, ["student_layer='act'"])])


def test_a_block_of_nothing_but_convolutions_has_its_channels_first():
    block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    net = nn.Sequential(block, nn.ReLU())
    cube = torch.zeros(2, 8, 8, 8)
    assert layout_of(net, "0", cube) == "NCHW"
    assert layout_of(net, "1", cube) is None
