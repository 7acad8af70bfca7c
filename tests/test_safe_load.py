"""Files of strangers hold tensors, numbers and text; nothing that another library allowed makes lkd take more."""

import pickle

import pytest
import torch
from torch import nn

from lkd.safe_load import load, only_tensors


def test_a_class_that_another_library_allowed_is_still_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    before = torch.serialization.get_safe_globals()
    allowed = [nn.Linear, (nn.Linear, "torch.nn.modules.linear.Linear")]
    torch.serialization.add_safe_globals(allowed)
    try:
        with pytest.raises(pickle.UnpicklingError):
            load(tmp_path / "x.pt")
        assert all(one in torch.serialization.get_safe_globals() for one in allowed)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_tensors_and_plain_values_pass(tmp_path):
    torch.save({"a": torch.ones(2), "b": [1, "x", None]}, tmp_path / "x.pt")
    found = load(tmp_path / "x.pt")
    assert found["a"].tolist() == [1, 1] and found["b"] == [1, "x", None]


def test_the_list_stands_again_after_an_error():
    before = set(map(str, torch.serialization.get_safe_globals()))
    with pytest.raises(RuntimeError), only_tensors():
        raise RuntimeError
    assert set(map(str, torch.serialization.get_safe_globals())) == before
