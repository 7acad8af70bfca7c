"""Checks of what a site says of its clients, since a server trusts no site."""

from collections.abc import Collection
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


def kept(told: Message | Reply, clients: Collection[int]) -> dict[int, Groups]:
    """Returns what a site's clients keep, by client; on both sides, since neither trusts the other.

    Args:
        told: What the other says, with groups named `client/group`.
        clients: The clients of the site.

    Raises:
        ValueError: If there is a client of another site, or a tensor that lkd does not exchange or that is not
            finite.
    """
    found: dict[int, Groups] = {}
    for name, group in told.tensors.items():
        client, _, of = name.partition("/")
        if not (client.isascii() and client.isdigit() and len(client) < 10 and int(client) in clients):
            raise ValueError(f"{name!r:.80} must be of one of the site's clients, {sorted(clients)}")
        if strange := [key for key, tensor in group.items() if not is_exchanged(tensor)]:
            raise ValueError(
                f"{name}'s {strange[0]!r:.80} is of {group[strange[0]].dtype}, which lkd does not exchange"
            )
        if not all_finite(group.values()):
            raise ValueError(f"{name!r:.80} must be finite, and has NaN or infinite numbers")
        found.setdefault(int(client), {})[of] = group
    return found


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def _short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()
