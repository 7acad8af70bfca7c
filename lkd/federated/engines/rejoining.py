"""Sites that come back: by themselves, into the job that they were in, or with a new job for all."""

from collections.abc import Iterator, Mapping

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lkd.federated.engines.site import Site
from lkd.flare.deployment import Deployment

Sites = Mapping[str, Site]
"""Sites by name."""


def joined(deployment: Deployment, sites: Sites) -> Iterator[Site]:
    """Takes the connections of sites that are back in the job, and yields these."""
    while not deployment.joined.empty():
        name, pipe = deployment.joined.get()
        if name in sites:
            sites[name].join(pipe)
            yield sites[name]


def waiting(deployment: Deployment, sites: Sites) -> list[str]:
    """Returns the names of sites that were started again, and so have no part in the job."""
    gone = {site.name: site.lost for site in sites.values() if not site.lives}
    return deployment.returned(gone) if gone else []


def renew(deployment: Deployment, sites: Sites) -> list[Site]:
    """Begins a new job, if a site waits for one; returns the sites in it, none of which has begun."""
    if not (back := waiting(deployment, sites)):
        return []
    rank_zero_info(f"{', '.join(back)} is back: all sites begin a new job.")
    there = [*back, *(site.name for site in sites.values() if site.lives)]
    for site in sites.values():
        site.end()
    for name, pipe in deployment.renew(there).items():
        sites[name].join(pipe)
    return [site for site in sites.values() if site.lives]
