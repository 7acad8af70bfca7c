"""MLP and CNN: their shapes, what they compute, and bad input."""

import pytest
import torch

from lkd.models import CNN, MLP


def test_without_hidden_layers_it_is_softmax_regression():
    network = MLP(6, 3)
    weight, bias = network.parameters()
    x = torch.rand(4, 1, 2, 3)
    assert torch.allclose(network(x), x.flatten(1) @ weight.T + bias)


def test_2nn_of_mcmahan_has_its_number_of_parameters():
    assert sum(p.numel() for p in MLP(784, 10, hidden=[200, 200]).parameters()) == 199_210


def test_hidden_layers_are_followed_by_relu_and_the_last_is_not():
    network = MLP(2, 1, hidden=[1])
    for p in network.parameters():
        torch.nn.init.constant_(p, -1.0)
    assert network(torch.ones(1, 2)).item() == -1.0  # relu(-3) = 0, then -1


def test_cnn():
    network = CNN(image_size=28, classes=10, channels=[8, 16], in_channels=1)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert not list(network.buffers())  # nothing that depends on a batch


def test_bad_input():
    with pytest.raises(ValueError, match="hidden="):
        MLP(4, 2, hidden=[0])
    with pytest.raises(ValueError, match="image_size=3"):
        CNN(3, 10)
