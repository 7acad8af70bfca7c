"""What clients keep at sites, as it was known last."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.client.state import ClientStore
from lkd.federated.engines.placed import Seat
from lkd.federated.engines.seats import of_site
from lkd.federated.engines.site import Site
from lkd.federated.protocol.messages import RefusalError

LAST = 10.0
"""Seconds that a site may take for what its clients keep, before it is ended."""
Seats = Mapping[int, tuple[str, Seat]]
"""Site of each client, and its seat there."""


class SiteStore(ClientStore):
    """Store that asks sites what their clients keep, and gives it to them."""

    def ask(self, sites: Iterable[Site], seats: Seats) -> None:
        """Asks sites; of one that cannot say it, what was known last stays, with a warning."""
        for site in sites:
            try:
                self._ask(site, seats)
            except (ConnectionError, RefusalError) as error:
                rank_zero_warn(
                    f"{str(error).rstrip('.')}, so the checkpoint has of its clients what they kept when they were last asked."
                )

    def ask_last(self, sites: Iterable[Site], seats: Seats) -> None:
        """Asks sites that are about to be ended, which may be stuck."""
        for site in sites:
            site.limit = min(site.limit, LAST)
            with contextlib.suppress(ConnectionError, RefusalError):
                self._ask(site, seats)

    def _ask(self, site: Site, seats: Seats) -> None:
        if not (site.lives and site.begun):
            raise ConnectionError(f"site {site.name} is not there")
        clients = of_site(seats, site.name)
        found: dict[int, Any] = site.states(clients)
        for client in clients:
            self.put(client, found.get(client, {}))

    def give(self, sites: Iterable[Site], seats: Seats) -> None:
        """Gives sites what their clients have kept, and nothing else."""
        for site in sites:
            mine = of_site(seats, site.name)
            site.restore({client: of for client, of in self.state_dict().items() if client in mine})
