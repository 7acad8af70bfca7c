"""Tiny students, their checkpoints and their data."""

import onnx
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.modules import Classifier, Detector

TINY = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]] for _ in range(5)],
    "head": [[[2, 3, 4], 1, "Detect", ["nc"]]],
}
"""A detector of five convolutions, with strides 8, 16 and 32."""


def save(module, path, **entries):
    """A checkpoint as Lightning writes it."""
    torch.save({"state_dict": module.state_dict(), "pytorch-lightning_version": "2.6.0", **entries}, path)
    return str(path)


def detector(seed=0, **kwargs):
    """A detector that is sure of many random boxes."""
    torch.manual_seed(seed)
    made = Detector(TINY, num_classes=2, **kwargs)
    with torch.no_grad():
        for yolo in made.networks():
            for branch in yolo.head.cv3:
                branch[-1].bias.fill_(-1.0)
                branch[-1].weight.normal_(0, 2.0)
            for norm in yolo.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.running_var.fill_(0.05)
    return made


def classifier(seed=0):
    torch.manual_seed(seed)
    return Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)), num_classes=3
    )


class Samples(LightningDataModule):
    """Labeled (3, 2, 2) samples that `classifier` is right about, mostly."""

    mean, std, scale, classes = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 255, ["cat", "dog", "cow"]

    def __init__(self, count=10, seed=0):
        super().__init__()
        self.x = torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            self.y = classifier()(self.x).argmax(1)
        if count:
            self.y[0] = (self.y[0] + 1) % 3

    def test_dataloader(self):
        return DataLoader(TensorDataset(self.x, self.y), batch_size=4)


class Plain(LightningModule):
    """A module of somebody's own."""

    def __init__(self, *layers):
        super().__init__()
        self.net = nn.Sequential(*(layers or (nn.Flatten(), nn.Linear(12, 3))))

    def forward(self, x):
        return self.net(x)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test/right", (self(x).argmax(1) == y).float().mean(), batch_size=len(y))


def by_hand(network, inputs, outputs):
    """A graph of flat layers in a row, put together without the exporter, which takes seconds."""
    make, nodes, weights, last = onnx.helper, [], [], "x"
    named = {
        m: name
        for name, m in network.named_modules()
        if isinstance(m, nn.Linear | nn.Tanh | nn.ReLU | nn.Flatten)
    }
    layers = list(named)
    for number, layer in enumerate(layers):
        given, last = [last], f"y{number}" if number + 1 < len(layers) else "logits"
        if isinstance(layer, nn.Linear):
            for name, tensor in layer.named_parameters():
                given.append(f"{named[layer]}.{name}")
                weights.append(onnx.numpy_helper.from_array(tensor.detach().numpy(), given[-1]))
        kind = {nn.Linear: "Gemm", nn.Flatten: "Flatten", nn.Tanh: "Tanh", nn.ReLU: "Relu"}[type(layer)]
        nodes.append(make.make_node(kind, given, [last], **({"transB": 1} if kind == "Gemm" else {})))
    (x,) = inputs.values()
    ends = [
        make.make_tensor_value_info(name, 1, ["batch", *shape])
        for name, shape in (("x", x.shape[1:]), ("logits", [layers[-1].out_features]))
    ]
    graph = make.make_graph(nodes, "by_hand", ends[:1], ends[1:], weights)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)
