"""Addresses of layers: what they name, in outputs of any kind, and what is refused."""

import dataclasses
from collections import UserDict
from typing import NamedTuple

import pytest
import torch
from torch import nn

from lkd.addresses import entry_of, find_layer, parse


class Named(NamedTuple):
    logits: int
    features: tuple


@dataclasses.dataclass
class Output:
    logits: int


@pytest.mark.parametrize(
    ("value", "address", "entry"),
    [
        ("whole", "body", "whole"),
        (("logits", "features"), "body:0", "logits"),
        (["a", "b"], ":-1", "b"),
        ({"logits": 1}, ":logits", 1),
        ({0: "level"}, ":0", "level"),
        ({"0": "text", 0: "number"}, ":0", "text"),
        ({"stages": [1, {"deep": 2}]}, "a.b:stages:1:deep", 2),
        (Named(1, (2, 3)), ":features:1", 3),
        (Named(1, (2, 3)), ":0", 1),
        (Output(5), ":logits", 5),
        ((1, 2), ":*", [1, 2]),
        (("logits", 2), ":0@NLC", "logits"),
    ],
)
def test_entries(value, address, entry):
    assert entry_of(value, address, "student_layer") == entry


@pytest.mark.parametrize(
    ("value", "address", "found"),
    [
        (
            (torch.zeros(2, 3), torch.zeros(2, 8)),
            "body:2",
            "no entry '2', it is a tuple of a tensor (2, 3), a tensor (2, 8)",
        ),
        (torch.zeros(2, 3), "body:0", "no entry '0', it is a tensor (2, 3)"),
        ({"logits": 1}, ":features", "no entry 'features', it is a dict with ['logits']"),
        (Output(5), ":features", "no entry 'features', it is an Output"),
        ((1, 2), ":first", "no entry 'first', it is a tuple of an int, an int"),
    ],
)
def test_entries_that_are_not_there(value, address, found):
    with pytest.raises(ValueError) as caught:
        entry_of(value, address, "teacher_layer")
    assert f"teacher_layer={address!r}: the output has " in str(caught.value)
    assert found.lower() in str(caught.value).lower()


class Output:
    """What the forward of a foreign network may return."""

    def __init__(self):
        self.logits = 3


@pytest.mark.parametrize("value", [UserDict(logits=3), Output()])
def test_entries_of_mappings_and_objects(value):
    assert entry_of(value, ":logits", "student_layer") == 3
    with pytest.raises(ValueError, match=r"no entry 'scores', it is an? (UserDict|Output)"):
        entry_of(value, ":scores", "student_layer")


def test_a_tensor_is_never_taken_apart():
    """`:0` of a tensor would be its first sample, and the loss that of one sample."""
    with pytest.raises(ValueError, match="no entry '0'"):
        entry_of(torch.zeros(4, 3), ":0", "student_layer")


def test_an_unknown_layout():
    with pytest.raises(
        ValueError, match=r"student_layer='body@CHW': after the @ stands one of NHWC, NCHW, NLC, NCL"
    ):
        parse("body@CHW", "student_layer")


def test_layers():
    net = nn.Sequential(nn.ModuleDict({"head": nn.Linear(2, 2)}), nn.ReLU())
    assert find_layer(net, "0.head:logits@NLC", "layer") is net[0]["head"]
    assert find_layer(net, "", "layer") is find_layer(net, ":1", "layer") is net
    with pytest.raises(
        ValueError,
        match=r"student_layer='0\.haed' is not a layer of Sequential; did you mean one of '0\.head'",
    ):
        find_layer(net, "0.haed", "student_layer")


def test_what_torch_compile_has_made():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    whole = torch.compile(net, backend="eager")
    assert find_layer(whole, "", "teacher_layer") is whole  # its own output can be seen
    with pytest.raises(ValueError, match=r"teacher_layer='_orig_mod\.0' lies inside of what torch\.compile"):
        find_layer(whole, "_orig_mod.0", "teacher_layer")
    net[1].compile(backend="eager")
    assert find_layer(net, "0", "teacher_layer") is net[0]
    with pytest.raises(ValueError, match=r"'1' lies inside of what torch\.compile"):
        find_layer(net, "1", "teacher_layer")
