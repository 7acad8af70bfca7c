"""Checks of a client's reply, since a server trusts no client."""

import math

from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensor_names import SharedNames
from lkd.federated.protocol.tensors import Tensors, all_finite, is_exchanged


def fault(reply: Reply, layout: SharedNames, x: Tensors, buffers: Tensors) -> str:
    """Says in a sentence why a reply cannot be used; empty if it can.

    Args:
        reply: The reply. Its groups of tensors must match the server's; numbers and knowledge must be finite.
        layout: The server's tensors that the client has.
        x: The server's weights.
        buffers: The server's buffers.

    Example:
        >>> import torch
        >>> layout, x = SharedNames({"w": "w"}, {}), {"w": torch.zeros(2)}
        >>> fault(Reply({"delta": {"w": torch.ones(2)}}), layout, x, {})
        ''
        >>> fault(Reply({"delta": {"w": torch.ones(3)}}), layout, x, {})
        'its delta w is (3,) of torch.float32, not (2,) of torch.float32'
        >>> fault(Reply({"delta": {"w": torch.tensor([1.0, torch.inf])}}), layout, x, {})
        'its delta is not finite (NaN or infinite)'
    """
    for group, tensors in reply.tensors.items():
        like = layout.of_client(buffers if group == "buffers" else x)
        if tensors.keys() != like.keys():
            return f"its {group} does not have the server's names"
        for name, tensor in tensors.items():
            want = like[name]
            if tensor.shape != want.shape or tensor.dtype != want.dtype:
                return (
                    f"its {group} {name} is {tuple(tensor.shape)} of {tensor.dtype}, "
                    f"not {tuple(want.shape)} of {want.dtype}"
                )
        if not all_finite(tensors.values()):
            return f"its {group} is not finite (NaN or infinite)"
    for name, number in reply.metrics.items():
        if not math.isfinite(number):
            return f"its number {name} is not finite (NaN or infinite)"
    for name, tensor in reply.knowledge.items():
        if not is_exchanged(tensor):
            return f"its {name} is of {tensor.dtype}, which lkd does not average or compare"
        if not all_finite([tensor]):
            return f"its {name} is not finite (NaN or infinite)"
    return ""
