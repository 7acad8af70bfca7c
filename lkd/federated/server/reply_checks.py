"""Checks of a client's reply, since a server trusts no client."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensor_names import SharedNames
from lkd.federated.protocol.tensors import Tensors, all_finite, is_exchanged, norm

Form = dict[str, tuple[torch.Size, torch.dtype]]
"""Shapes and types of tensors by name."""


class Expected(NamedTuple):
    """What the tensors of a client's reply have to look like.

    Attributes:
        weights: Names, shapes and types in groups that are like the weights.
        buffers: The same of the group of buffers.
    """

    weights: Form
    buffers: Form

    @classmethod
    def of(cls, layout: SharedNames, x: Tensors, buffers: Tensors) -> "Expected":
        """Describes the server's tensors that an architecture has, by its own names."""
        return cls(*(_form(layout.of_client(tensors)) for tensors in (x, buffers)))


def fault(reply: Reply, expected: Expected, lengths: dict[str, float] | None = None) -> str:
    """Says in a sentence why a reply cannot be used; empty if it can.

    Args:
        reply: The reply. Its groups of tensors must match the server's; numbers and knowledge must be finite.
        expected: The server's tensors that the client has.
        lengths: Takes the norm of each group of tensors, by which it is looked whether all are finite.

    Example:
        >>> layout, x = SharedNames({"w": "w"}, {}), {"w": torch.zeros(2)}
        >>> expected = Expected.of(layout, x, {})
        >>> fault(Reply({"delta": {"w": torch.ones(2)}}), expected)
        ''
        >>> fault(Reply({"delta": {"w": torch.ones(3)}}), expected)
        'its delta w is (3,) of torch.float32, not (2,) of torch.float32'
        >>> fault(Reply({"delta": {"w": torch.tensor([1.0, torch.inf])}}), expected)
        'its delta is not finite (NaN or infinite)'
    """
    for group, tensors in reply.tensors.items():
        wrong = _misfit(group, tensors, expected.buffers if group == "buffers" else expected.weights)
        if wrong:
            return wrong
        length = norm(tensors)
        if not math.isfinite(length) and not all_finite(tensors.values()):
            return f"its {group} is not finite (NaN or infinite)"
        if lengths is not None:
            lengths[group] = length
    for name, number in reply.metrics.items():
        if not math.isfinite(number):
            return f"its number {name} is not finite (NaN or infinite)"
    for name, tensor in reply.knowledge.items():
        if not is_exchanged(tensor):
            return f"its {name} is of {tensor.dtype}, which lkd does not average or compare"
        if not all_finite([tensor]):
            return f"its {name} is not finite (NaN or infinite)"
    return ""


def _form(tensors: Mapping[str, torch.Tensor]) -> Form:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _misfit(group: str, tensors: Tensors, form: Form) -> str:
    """Says in which way a group of tensors is not of a form."""
    found = _form(tensors)
    if found == form:
        return ""
    if found.keys() != form.keys():
        return f"its {group} does not have the server's names"
    name = next(name for name in found if found[name] != form[name])
    (shape, dtype), (wanted, of) = found[name], form[name]
    return f"its {group} {name} is {tuple(shape)} of {dtype}, not {tuple(wanted)} of {of}"
