"""Replies as the server reads them, from the form in which they travel; it trusts no client."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lkd.federated.codecs.base import Codec, Form
from lkd.federated.codecs.deflate import BYTES
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensors import Groups, Tensors, all_finite, as_real
from lkd.federated.server.calls import Exchange

MOST = 8
"""Groups of a reply that are decoded; algorithms here have two."""


def decoding(exchange: Exchange, codec: Codec, like: Callable[[int], Tensors]) -> Exchange:
    """Returns an exchange whose replies to `"train"` are decoded.

    Args:
        exchange: The engine's exchange.
        codec: The codec of the clients.
        like: Gives the shared weights of a client, by its own names.
    """

    def through(verb: str, messages: dict[int, Message]) -> Iterator[Reply]:
        for reply in exchange(verb, messages):
            if verb != "train" or reply.error or reply.client not in messages:
                yield reply
                continue
            size = reply.nbytes
            try:
                reply.tensors = decoded(codec, reply.tensors, like(reply.client))
            except ValueError as error:
                reply = replace(reply, tensors={}, error=str(error))
            reply.travelled = size
            yield reply

    return through


def decoded(codec: Codec, groups: Groups, like: Tensors) -> Groups:
    """Decodes the groups of a reply.

    Args:
        codec: The codec.
        groups: What `encoded` gave at the client.
        like: The weights that the tensors are named like.

    Raises:
        ValueError: If they are not of the form that the codec gives; the message begins with `its`.

    Example:
        >>> import torch
        >>> from lkd.federated.codecs.half import Half
        >>> w = torch.tensor([1.0, 2.0])
        >>> decoded(Half(), {"delta.half": {"w": w.bfloat16()}}, {"w": w})
        {'delta': {'w': tensor([1., 2.])}}
    """
    found: Groups = {}
    forms = {name: codec.form(as_real(tensor)) for name, tensor in like.items()}
    known = {part for form in forms.values() for part in form}
    parts: dict[str, dict[str, Tensors]] = {}
    for key, tensors in groups.items():
        group, _, part = key.rpartition(".")
        if not group or part not in known:
            found[key] = tensors  # not encoded: the check of all replies looks at it
            continue
        for name, tensor in tensors.items():
            parts.setdefault(group, {}).setdefault(name, {})[part] = tensor
    if len(parts) > MOST:  # each is as large as the model once it is decoded
        raise ValueError(f"its {len(parts)} groups are more than {MOST}")
    for group, by_name in parts.items():
        if by_name.keys() != like.keys():
            raise ValueError(f"its {group:.40} does not have the server's names")
        found[group] = {}
        for name, tensor in like.items():
            _check(f"{group} {name}", by_name[name], forms[name])
            real = as_real(tensor)
            try:
                value = codec.decode(by_name[name], real)
            except Exception as error:  # of a codec of anybody's, on what may be anybody's reply
                raise ValueError(f"its {group} {name}: {error}") from error
            found[group][name] = torch.view_as_complex(value.contiguous()) if tensor.is_complex() else value
    return found


def _check(who: str, parts: Tensors, form: Form) -> None:
    if parts.keys() != form.keys():
        raise ValueError(f"its {who} has the parts {sorted(parts)}, not {sorted(form)}")
    for part, (shape, dtype) in form.items():
        tensor: Tensor = parts[part]
        fits = tensor.ndim == 1 if shape == (BYTES,) else tuple(tensor.shape) == shape
        if not fits or tensor.dtype != dtype:
            raise ValueError(
                f"its {who} ({part}) is {tuple(tensor.shape)} of {tensor.dtype}, not {shape} of {dtype}"
            )
        if not all_finite([tensor]):
            raise ValueError(f"its {who} ({part}) is not finite (NaN or infinite)")
