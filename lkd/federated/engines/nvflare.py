"""Engine with clients on other machines, by NVFlare."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.checks import expect
from lkd.federated.engines.begin import begin_command, fitting
from lkd.federated.engines.placed import Seat
from lkd.federated.engines.plan import Plan, check_description, plan_of
from lkd.federated.engines.rejoining import joined, renew, waiting
from lkd.federated.engines.remote import Channel, RemoteEngine, start_of
from lkd.federated.engines.seats import ask, of_site, seated
from lkd.federated.engines.site import Site, told_by
from lkd.federated.engines.site_store import SiteStore
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message
from lkd.federated.protocol.tensors import Groups, Tensors, moved
from lkd.federated.protocol.wire import pack
from lkd.flare.deployment import Deployment


class NVFlare(RemoteEngine):
    """Engine whose clients are at sites that dial in to a server of NVFlare, by mutual TLS.

    Trainer, checkpoints, logging and validation stay in this process, on the server's machine. A site makes
    data and modules from descriptions in plain values, its own and the server's, and trains; code never
    travels. Without a `kit`, server and sites are processes on this machine, with kits made for them: a
    rehearsal of the same path. See docs/deployment.md.

    Args:
        kit: Folder of the admin's kit of a running server. Default: a rehearsal.
        sites: Number of sites; the run begins when they have joined. Default 3.
        description: Of runs from Python: `model`, `data` and `callbacks` with class path and arguments. The
            command line's runs are described by their configuration.
        start_timeout: Seconds until all have joined, and that a site may take to say who its clients are, to
            begin, or to hand over what they keep; their work has `client_timeout`. Default 300.
        threads: Threads of torch at each site of a rehearsal. Default 1.
        allow: Packages that a description may name at the sites of a rehearsal, beside lkd.
        keep: Whether server and sites of a rehearsal, and the job, stay for another fit.
        segment: Rounds after which it is looked whether a site that was started again waits to come back. If
            so, all sites begin a new job, which takes as long as the run's start. Default 1: every round; 0:
            never.

    Raises:
        ValueError: For `sites` or `threads` below 1, a `segment` below 0, a `start_timeout` that is not above 0, or a `kit` or
            `description` that is none.
        ModuleNotFoundError: If NVFlare is not installed.
    """

    def __init__(
        self,
        kit: str | None = None,
        sites: int = 3,
        description: dict[str, Any] | None = None,
        start_timeout: float = 300.0,
        threads: int = 1,
        allow: Sequence[str] = (),
        keep: bool = False,
        segment: int = 1,
    ) -> None:
        super().__init__()
        expect(sites=sites, threads=threads, ge=1)
        expect(segment=segment, ge=0)
        expect(start_timeout=start_timeout, gt=0, why="it is in seconds")
        if not installed():
            raise ModuleNotFoundError('engine=NVFlare needs NVFlare: pip install "lightning-kd[nvflare]".')
        if kit is not None and not Path(kit, "startup/fed_admin.json").is_file():
            raise ValueError(
                f"kit={kit!r} must be the folder of an admin's kit, with startup/fed_admin.json."
            )
        if description is not None:
            check_description(description)
        self.kit, self.sites, self.description = kit, sites, description
        self.start_timeout, self.threads, self.allow, self.keep_sites = start_timeout, threads, allow, keep
        self.segment, self._looked = segment, -1  # the round in which it was looked
        self._deployment: Deployment | None = None
        self._sites: dict[str, Site] = {}
        self._seats: dict[int, tuple[str, Seat]] = {}
        self._begin: dict[str, Any] | None = None
        self._kept = SiteStore()  # as it was known last
        self._forget, self._keep_group = True, cast(str | None, None)
        self._start: list[Tensors] = []

    def meet(self, trainer: Trainer) -> None:
        """Asks the sites who their clients are, where the data here do not know."""
        data = cast(Any, trainer).datamodule
        if not hasattr(data, "take"):
            return
        if self.kit is None:
            raise ValueError(
                f"data={type(data).__name__}: a rehearsal's sites need data to share; give a kit of sites with data of their own, "
                "or a FederatedDataModule."
            )
        self._launch(plan_of(trainer, self.description, ()))
        data.take([(f"{site}/{one['name']}", one) for site, one in ask(self._sites)])

    def open(self, description: Description) -> None:
        """Takes the description of the federation; the sites will forget what they kept of another one.

        Raises:
            ValueError: If the algorithm needs the data of several clients in one place.
        """
        if description.algorithm.pools_data and self.sites > 1:
            raise ValueError(
                f"algorithm={type(description.algorithm).__name__} trains on the data of all clients in one place, and with "
                f"engine=NVFlare they stay at sites={self.sites} of them; take engine=Loop() where the data are."
            )
        self._description, self._begin, self._forget, self._looked = description, None, True, -1
        self._kept.load_state_dict({})

    def prepare(self, trainer: Trainer, anew: bool) -> None:
        """Puts the sites in connection, and describes the federation to them."""
        self._trainer, self._device = trainer, trainer.strategy.root_device
        if trainer.world_size > 1:
            raise ValueError(
                f"engine=NVFlare: devices={trainer.world_size} must be 1: the sites do the work."
            )
        if self._begin is not None and not anew:
            return
        if (privacy := self._description.privacy) is not None and not privacy.secret:
            rank_zero_warn(
                "engine=NVFlare: every site is told the run's seed, from which the noise of privacy=ClientDP follows, so that epsilon holds "
                "for nobody who knows a site: ClientDP(secret=True)."
            )
        every, fits = cast(Any, trainer).callbacks, fitting(trainer)
        self._callbacks = [c for c in every if hasattr(c, "take_settings") and fits]
        plan = plan_of(trainer, self.description, self._callbacks)
        new = self._launch(plan)
        of = self._description
        self._start = [start_of(model, of.personal_layers) for model in of.models]
        clients = self._clients(trainer)
        self._seats = seated(ask(self._sites), clients, hasattr(cast(Any, trainer).datamodule, "take"))
        self._begin = begin_command(trainer, of, plan, len(clients))
        try:
            self._begin_at(list(self._sites.values()))
        except BaseException:
            self._begin = None  # the next fit describes it again
            raise
        self._forget, self._keep_group = False, None
        if new and self.kit is None:  # a rehearsal's former sites are gone, with all that was kept there
            self._kept.give(self._living(), self._seats)

    def _launch(self, plan: Plan) -> bool:
        """Waits until all sites are in connection; returns whether they are new to this engine."""
        if self._deployment is not None:  # kept from another fit, which some may have left
            list(joined(self._deployment, self._sites))
            renew(self._deployment, self._sites)
            there = [name for name, site in self._sites.items() if site.lives]
            for name, pipe in self._deployment.gather(there).items():
                self._sites[name].join(pipe)
            return False
        local = {"data": plan["data"], "threads": self.threads, "allow": list(self.allow)}
        locals_ = [json.dumps({**local, "turn": [k, self.sites]}) for k in range(self.sites)]
        kit = None if self.kit is None else Path(self.kit)
        deployment = Deployment(kit, self.sites, locals_, self.start_timeout)
        try:
            found = deployment.gather()
        except BaseException:
            deployment.close()
            raise
        self._deployment = deployment
        for name, pipe in found.items():
            self._sites[name] = Site(name, self.start_timeout)
            self._sites[name].join(pipe)
        return True

    def _clients(self, trainer: Trainer) -> Any:
        cast(Any, trainer.fit_loop).setup_data()
        return cast(Any, trainer.train_dataloader).dataset

    def _begin_at(self, sites: Sequence[Site]) -> None:
        """Describes the federation to sites, which begin side by side."""
        assert self._begin is not None
        for site in sites:
            about = {
                "clients": of_site(self._seats, site.name),
                "forget": self._forget,
                "keep": self._keep_group,
            }
            site.send({**self._begin, **about}, pack(Message({str(k): s for k, s in enumerate(self._start)})))
        told_by(sites)
        for site in sites:
            site.begin()

    def _ready(self) -> None:
        """Lets sites that are back take part; after a fit, all of them, for clients that are measured then."""
        if self._begin is None:
            assert self._trainer is not None
            self.prepare(self._trainer, anew=False)
        back = list(joined(cast(Deployment, self._deployment), self._sites))
        for site in dict.fromkeys([*back, *self._renewed()]):
            try:
                self._begin_at([site])
            except ConnectionError:  # it joins again, or is gone
                site.end()

    def waiting(self) -> list[str]:
        """Returns the names of sites that were started again, and come in with the next segment."""
        return [] if self._deployment is None else waiting(self._deployment, self._sites)

    def _renewed(self) -> list[Site]:
        """Begins a new job between two rounds, if a site waits for one; returns the sites in it."""
        at = cast(Trainer, self._trainer).current_epoch
        if not self.segment or at % self.segment or at == self._looked:
            return []
        self._looked = at
        return renew(cast(Deployment, self._deployment), self._sites)

    def _who(self, client: int) -> Site | None:
        site = self._sites[self._seats[client][0]]
        return site if site.lives and site.begun else None

    def _again(self, channel: Channel) -> None:
        """Waits for nobody: a site that is back takes part in a later round."""

    def _absent(self, client: int) -> str:
        return f"site {self._seats[client][0]} is not there"

    def undo(self, client: int) -> None:
        """Restores what a client kept before its last answer."""
        self._sites[self._seats[client][0]].send({"do": "undo", "client": client, "quiet": True})

    def _living(self) -> list[Site]:
        return [site for site in self._sites.values() if site.lives and site.begun]

    def keep(self, group: str) -> None:
        """Makes all clients forget what they keep, except for one group of tensors."""
        self._keep_group = group
        self._kept.keep(group)
        for site in self._living():
            site.ask({"do": "keep", "group": group})

    def state_dict(self) -> dict[str, Any]:
        """Returns the clients' states, which the sites are asked for; schedules follow from the round."""
        self._kept.ask(self._sites.values(), self._seats)
        slots: list[dict[str, Any]] = [
            {"rounds": 0, "groups": [], "scheduler": None, "start": start} for start in self._start
        ]
        return {"clients": dict(sorted(self._kept.state_dict().items())), "slots": slots}

    def load_state_dict(self, clients: dict[int, Groups], slots: Sequence[dict[str, Any]] | None) -> None:
        """Restores the clients' part of a checkpoint."""
        self._kept.load_state_dict(clients)
        for kind, slot in enumerate(slots or ()):
            self._start[kind] |= moved(slot.get("start", {}), "cpu")
        self._kept.give(self._living(), self._seats)
        for site in self._living():
            site.ask({"do": "start"}, pack(Message({str(k): s for k, s in enumerate(self._start)})))

    def close(self) -> None:
        """Ends the job, and a rehearsal's server and sites."""
        self._stop()
        if self._deployment is None or self.keep_sites:
            return
        try:
            if self.kit is None:  # what its clients keep goes with its sites
                self._kept.ask_last(self._living(), self._seats)
        finally:
            for site in self._sites.values():
                site.end()
            self._deployment.close()
            self._deployment, self._sites, self._begin = None, {}, None

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("an engine with sites is not copied: give every Federation one of its own.")


def installed() -> bool:
    """Tells whether NVFlare is there."""
    return importlib.util.find_spec("nvflare") is not None
