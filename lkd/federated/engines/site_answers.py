"""Checks of what a site says of its clients, since a server trusts no site."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from lkd.federated.protocol.client_data import ClientInfo, Part
from lkd.federated.protocol.messages import Message, RefusalError, Reply
from lkd.federated.protocol.tensors import Groups, all_finite, is_exchanged

MOST = 1 << 40
"""Largest number of samples or batches that is believed."""
LONGEST = 100
"""Letters that a name may have."""


def infos(site: str, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what a site says of its clients, as `ClientInfo.as_dict` writes it.

    Args:
        site: Name of the site.
        head: Its answer.

    Raises:
        RefusalError: If something in it cannot be; the message names the site, the client and the value.
    """
    clients = head.get("clients")
    if not isinstance(clients, list):
        raise RefusalError(f"site {site}: clients={clients!r:.80} must be a list of its clients.")
    seen: set[int] = set()
    for place, one in enumerate(clients):
        if wrong := _fault(one, seen):
            raise RefusalError(f"site {site}: of its client {place}, {wrong}.")
        seen.add(one["id"])
    return clients


def _fault(one: Any, seen: Collection[int]) -> str:
    """Says what is wrong with the description of a client; empty if nothing is."""
    names = list(ClientInfo.__dataclass_fields__)
    if not isinstance(one, dict) or one.keys() != set(names):
        return f"{one!r:.80} must say {', '.join(names)}"
    present, parts, name = one["present"], one["parts"], one["name"]
    for key, least in (("id", 0), ("num_samples", 1), ("num_batches", 1), ("public", 0)):
        if not _whole(one[key], least):
            return f"{key}={one[key]!r:.80} must be a whole number, {least} or more"
    if one["id"] in seen:
        return f"id={one['id']} is that of another one, too, and must be its own"
    if not _short(name):
        return f"name={name!r:.80} must be a short text, of {LONGEST} letters at most"
    if not isinstance(parts, list) or not all(part in get_args(Part) for part in parts):
        return f"parts={parts!r:.80} must be a list of {', '.join(get_args(Part))}"
    if not isinstance(present, dict) or not all(_short(k) and _whole(n, 0) for k, n in present.items()):
        return f"present={present!r:.80} must be whole numbers by short names"
    return ""


def listed(states: Mapping[int, Groups]) -> tuple[list[list[Any]], Groups]:
    """Puts what clients keep into one message: the client and the name of each group, and the groups in order.

    Example:
        >>> import torch
        >>> listed({3: {"c": {"w": torch.ones(1)}}})
        ([[3, 'c']], {'0': {'w': tensor([1.])}})
    """
    each = [(client, name, group) for client, of in states.items() for name, group in of.items()]
    whose: list[list[Any]] = [[client, name] for client, name, _ in each]
    return whose, {str(place): group for place, (_, _, group) in enumerate(each)}


def kept(whose: Any, told: Message | Reply, clients: Collection[int]) -> dict[int, Groups]:
    """Returns what a site's clients keep, by client; on both sides, since neither trusts the other.

    Args:
        whose: The client and the name of each group, as `listed` gave it.
        told: What the other says, with the groups.
        clients: The clients of the site.

    Raises:
        ValueError: If there is a client of another site, or a tensor that lkd does not exchange or that is not
            finite.
    """
    found: dict[int, Groups] = {}
    places = [str(place) for place in range(len(whose))] if isinstance(whose, list) else None
    if places is None or list(told.tensors) != places:
        raise ValueError(f"the list of whose they are, {whose!r:.80}, must have an entry for each group")
    for owner, group in zip(whose, told.tensors.values(), strict=True):
        if not (isinstance(owner, list) and len(owner) == 2 and _whole(owner[0], 0) and _short(owner[1])):
            raise ValueError(f"{owner!r:.80} must be a client and a name")
        client, of = owner
        if client not in clients:
            raise ValueError(
                f"{of!r} of client {client} must be of one of the site's clients, {sorted(clients)}"
            )
        name = f"client {client}'s {of}"
        if strange := [key for key, tensor in group.items() if not is_exchanged(tensor)]:
            raise ValueError(
                f"{name} has {strange[0]!r:.80} of {group[strange[0]].dtype}, which lkd does not exchange"
            )
        if not all_finite(group.values()):
            raise ValueError(f"{name} must be finite, and has NaN or infinite numbers")
        found.setdefault(client, {})[of] = group
    return found


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def _short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()
