"""Which site has which client."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lkd.federated.engines.placed import Seat
from lkd.federated.engines.site import Site, told_by
from lkd.federated.engines.site_answers import infos
from lkd.federated.protocol.client_data import ClientInfo

Told = list[tuple[str, dict[str, Any]]]
"""Name of the site and description of each client, in the order of sites and of the sites' clients."""


def ask(sites: Mapping[str, Site]) -> Told:
    """Asks all sites, side by side, who their clients are.

    Raises:
        ConnectionError: If a site is gone, or takes too long.
        ValueError: If a site refuses, what it says cannot be, or no site has a client.
    """
    for site in sites.values():
        site.send({"do": "info"})
    heads = told_by([site for _, site in sorted(sites.items())])
    told = [(name, one) for name, head in heads.items() for one in infos(name, head)]
    if not told:
        raise ValueError(
            "engine=NVFlare: no site has a client; look at `data` and `turn` in their local YAML."
        )
    return told


def seated(told: Told, clients: Iterable[Any], numbered: bool) -> dict[int, tuple[str, Seat]]:
    """Finds for each client the site that has it, and its seat there.

    Args:
        told: What the sites say.
        clients: The clients as the server knows them.
        numbered: Whether their numbers are their places in `told`. Else they are the sites' own.

    Raises:
        ValueError: If sites and server do not have the same clients; the message names one.
    """
    known = {info.id: info for info in map(ClientInfo.of, clients)}
    found: dict[int, tuple[str, Seat]] = {}
    for place, (name, one) in enumerate(told):
        there = ClientInfo.of_dict(one)
        number = place if numbered else there.id
        here = known.get(number)
        if here is None or (here.num_samples, here.num_batches) != (there.num_samples, there.num_batches):
            raise ValueError(
                f"site {name} has client {number} with {there.num_samples} samples, and the server's data "
                f"{'have no such client' if here is None else f'say {here.num_samples}'}: describe the same data to both, or take "
                "data=SiteClients() here."
            )
        if number in found:
            raise ValueError(
                f"sites {found[number][0]} and {name} both have client {number}: give each a `turn` of its own in its local YAML, or take "
                "data=SiteClients() here, which numbers them."
            )
        found[number] = name, Seat(there.id, here.share, here.probability)
    if lacks := sorted(known.keys() - found.keys()):
        raise ValueError(f"engine=NVFlare: no site has client {lacks[0]} of the server's data.")
    return found


def of_site(found: Mapping[int, tuple[str, Seat]], name: str) -> dict[int, Sequence[float]]:
    """Returns the seats of one site as plain values."""
    return {number: list(seat) for number, (site, seat) in found.items() if site == name}
