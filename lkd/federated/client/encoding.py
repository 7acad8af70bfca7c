"""A client's changes of the weights in the form in which they travel, and what that form leaves out."""

import torch

from lkd.federated.codecs.base import Codec
from lkd.federated.protocol.tensors import Groups, Tensors, all_finite, as_real

UNCODED = "buffers"
"""Group of a reply that travels as it is: statistics are no changes, whose rest could be sent later."""
REST, START = "rest", "start"


def encoded(codec: Codec, groups: Groups, kept: Tensors) -> tuple[Groups, Tensors]:
    """Encodes the groups of a reply.

    Args:
        codec: The codec.
        groups: Groups of tensors that are named like the weights.
        kept: What this gave the client to keep the last time.

    Returns:
        A group `<group>.<part>` for each part of each group, and what the client keeps.

    Example:
        >>> import torch
        >>> from lkd.federated.codecs.top_k import TopK
        >>> sent, kept = encoded(TopK(share=0.5), {"delta": {"w": torch.tensor([2.0, 1.0])}}, {})
        >>> sent["delta.values"], kept
        ({'w': tensor([2.])}, {'rest/delta/w': tensor([0., 1.])})
    """
    sent: Groups = {}
    keeps: Tensors = {}
    for group, tensors in groups.items():
        if group == UNCODED or not tensors:
            sent[group] = tensors
            continue
        for name, tensor in tensors.items():
            key, real = f"{group}/{name}", as_real(tensor)
            whole = real.to(torch.promote_types(real.dtype, torch.float32))  # in which small rests add up
            if (rest := kept.get(f"{REST}/{key}")) is not None:
                whole = whole + rest.to(whole)
            coded = whole.to(real.dtype)
            parts = codec.encode(coded, kept.get(f"{START}/{key}"))
            for part, value in parts.items():
                sent.setdefault(f"{group}.{part}", {})[name] = value
            if codec.error_feedback:
                keeps[f"{REST}/{key}"] = whole - codec.decode(parts, coded).to(whole)
            if (start := codec.start(parts, coded)) is not None:
                keeps[f"{START}/{key}"] = start
    if not all_finite([*keeps.values(), *(t for tensors in sent.values() for t in tensors.values())]):
        raise FloatingPointError(f"what {codec!r} makes of its change is not finite (NaN or infinite)")
    return sent, keeps
