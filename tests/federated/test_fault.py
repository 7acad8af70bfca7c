"""What a server refuses of a reply."""

import pytest
import torch

from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensor_names import SharedNames
from lkd.federated.server.reply_checks import Expected, fault

LAYOUT = SharedNames({"w": "other_models.0.w"}, {"mean": "other_models.0.mean"})
X = {"w": torch.zeros(7), "other_models.0.w": torch.zeros(2)}
BUFFERS = {"mean": torch.zeros(7), "other_models.0.mean": torch.zeros(3)}
EXPECTED = Expected.of(LAYOUT, X, BUFFERS)
GOOD = {"delta": {"w": torch.ones(2)}, "buffers": {"mean": torch.ones(3)}}


def test_a_reply_is_named_and_shaped_like_the_senders_architecture():
    assert fault(Reply(GOOD, knowledge={"logits": torch.ones(4, 3)}), EXPECTED) == ""


@pytest.mark.parametrize(
    ("group", "tensors", "what"),
    [
        ("delta", {"other_models.0.w": torch.ones(2)}, "its delta does not have the server's names"),
        ("delta", {}, "its delta does not have the server's names"),
        ("buffers", {"w": torch.ones(2)}, "its buffers does not have the server's names"),
        ("delta", {"w": torch.ones(7)}, "its delta w is (7,) of torch.float32, not (2,) of torch.float32"),
        ("c", {"w": torch.ones(2).double()}, "its c w is (2,) of torch.float64, not (2,) of torch.float32"),
        ("delta", {"w": torch.tensor([0.0, torch.nan])}, "its delta is not finite (NaN or infinite)"),
        ("buffers", {"mean": torch.full((3,), torch.inf)}, "its buffers is not finite (NaN or infinite)"),
    ],
)
def test_one_wrong_group_is_told(group, tensors, what):
    assert fault(Reply({**GOOD, group: tensors}), EXPECTED) == what


def test_knowledge_is_finite():
    reply = Reply(GOOD, knowledge={"count": torch.tensor([1]), "logits": torch.tensor([[torch.nan]])})
    assert fault(reply, EXPECTED) == "its logits is not finite (NaN or infinite)"


def test_a_number_that_is_none_is_no_reply():
    """It would end the run where it is added up."""
    assert "its number steps is not finite" in fault(Reply({}, metrics={"steps": float("nan")}), EXPECTED)
