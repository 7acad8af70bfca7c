"""Multiply-accumulates of networks and of files."""

import onnx
import torch
from torch import nn

from lkd.edge.compress import quantize_file
from lkd.edge.compress.macs import file_macs, macs

from ..students import by_hand
from .graphs import detector, frames


def test_file_and_network_have_the_same(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    x = {"x": torch.zeros(5, 3, 2, 2)}
    onnx.save(by_hand(net, x, ["logits"]), str(tmp_path / "a.onnx"))
    assert macs(net, x) == file_macs(tmp_path / "a.onnx") == 12 * 8 + 8 * 3


def test_int8_has_as_many(tmp_path):
    path, end = detector(tmp_path / "d.onnx"), tmp_path / "int8.onnx"
    quantize_file(path, end, frames())
    assert file_macs(path) == file_macs(end) == 64 * (8 * 27 + 8 * 72 + 6 * 8)
