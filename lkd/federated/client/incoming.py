"""Checks of what comes from a server on another machine, since a site trusts no server."""

import math
from typing import Any

from lkd.federated.client.host import Host
from lkd.federated.client.verbs import VERBS
from lkd.federated.protocol.messages import Message
from lkd.federated.protocol.tensors import all_finite, is_exchanged


def check_command(command: dict[str, Any], host: Host) -> None:
    """Refuses a command that does not ask for a client's work.

    Raises:
        ValueError: If there is something wrong; the message says what.
    """
    if command["do"] not in ("answer", "undo", "start"):
        raise ValueError(f"a site does not do {command['do']!r:.40}.")
    client, verb, limit = command.get("client"), command.get("verb"), command.get("timeout")
    if command["do"] != "start" and not _whole(client):
        raise ValueError(f"client={client!r:.40} must be a client's number.")
    if not _whole(command.get("mark", 0)):
        raise ValueError(f"mark={command['mark']!r:.40} must be the number of an answer.")
    if command["do"] != "answer":
        return
    own = isinstance(verb, str) and verb.isidentifier() and not verb.startswith("_")
    if not (verb in VERBS or (own and callable(getattr(type(host.algorithm), str(verb), None)))):
        raise ValueError(
            f"verb={verb!r:.40} is nothing that a client of {type(host.algorithm).__name__} does."
        )
    if limit is not None and not (_number(limit) and limit > 0):
        raise ValueError(f"timeout={limit!r:.40} must be seconds above 0.")
    at = command.get("at")
    if not isinstance(at, list) or len(at) != 2 or not all(map(_whole, at)):
        raise ValueError(f"at={at!r:.40} must be the numbers of epochs and steps.")
    if not isinstance(command.get("first"), bool) or not isinstance(command.get("settings"), list):
        raise ValueError(
            "a command to answer says whether it is the `first`, and the `settings` of callbacks."
        )


def check_message(message: Message, host: Host, client: int) -> None:
    """Refuses tensors of other names, shapes or types than the client's module has, and such as are not finite.

    Args:
        message: What the server sends to a client.
        host: The client side.
        client: Id of the client.

    Raises:
        ValueError: If there is something wrong; the message says what.
    """
    worker = host.slots[host.kind_of(client)].worker
    for group, tensors in message.tensors.items():
        if strange := sorted(set(tensors) - {*worker.buffers, *worker.shared}):
            raise ValueError(f"the server's {group} has {strange[0]!r:.80}, which the module here has not.")
        for name, tensor in tensors.items():
            want = worker.tensors[name]
            if tensor.shape != want.shape or tensor.dtype != want.dtype:
                raise ValueError(
                    f"the server's {group} {name} is {tuple(tensor.shape)} of {tensor.dtype}, not {tuple(want.shape)} of {want.dtype}."
                )
        if not all_finite(tensors.values()):
            raise ValueError(f"the server's {group} is not finite (NaN or infinite).")
    for name, tensor in message.knowledge.items():
        if not is_exchanged(tensor) or not all_finite([tensor]):
            raise ValueError(f"the server's {name:.80} is of {tensor.dtype} or not finite (NaN or infinite).")
    if "x" not in message.tensors:
        raise ValueError("the server's message has no x.")
    rounds, steps = message.config.get("round"), message.config.get("steps", 0)
    if not _whole(rounds) or not _whole(steps):
        raise ValueError(f"round={rounds!r:.40} and steps={steps!r:.40} must be whole numbers, from 0.")


def check_start(message: Message, host: Host) -> None:
    """Refuses a start of tensors that do not travel, of other names, shapes or types than the modules have.

    They may be infinite, as the mask of an attention is.

    Args:
        message: What new clients start from, a group for each architecture, by its number.
        host: The client side.

    Raises:
        ValueError: If there is something wrong; the message says what.
    """
    kinds = {str(kind): slot.worker for kind, slot in enumerate(host.slots)}
    for kind, tensors in message.tensors.items():
        if kind not in kinds:
            raise ValueError(f"the server's start has architecture {kind!r:.40}, and here are {len(kinds)}.")
        worker = kinds[kind]
        for name, tensor in tensors.items():
            if name not in worker.tensors or name in {*worker.shared, *worker.buffers}:
                raise ValueError(
                    f"the server's start has {name!r:.80}, which does not stay with clients here."
                )
            want = worker.tensors[name]
            if tensor.shape != want.shape or tensor.dtype != want.dtype:
                raise ValueError(
                    f"the server's start {name} is {tuple(tensor.shape)} of {tensor.dtype}, not {tuple(want.shape)} of {want.dtype}."
                )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
