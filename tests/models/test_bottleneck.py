"""Encoder and decoder of a bottleneck: their shapes, and what cannot be."""

import pytest
import torch

from lkd.models import BottleneckDecoder, BottleneckEncoder


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_shapes(stride):
    sent = BottleneckEncoder(3, channels=5, stride=stride, width=6)(torch.zeros(2, 3, 32, 16))
    assert sent.shape == (2, 5, 32 // stride, 16 // stride)
    for size in ((7, 16, 8), (7, 4, 4)):
        assert BottleneckDecoder(5, size)(sent).shape == (2, *size)


def test_what_is_sent_may_be_negative():
    encoder = BottleneckEncoder(1, channels=2).eval()
    with torch.no_grad():
        encoder[-1].weight.zero_()
        encoder[-1].bias.fill_(-3.0)
    assert torch.equal(encoder(torch.rand(1, 1, 4, 4)), torch.full((1, 2, 2, 2), -3.0))


def test_bad_input():
    with pytest.raises(ValueError, match="stride=3 must be"):
        BottleneckEncoder(3, stride=3)
    with pytest.raises(ValueError, match="channels=0"):
        BottleneckEncoder(3, channels=0)
    with pytest.raises(ValueError, match=r"shape=\(64,\) must be that of a map"):
        BottleneckDecoder(4, (64,))
