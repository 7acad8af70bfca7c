"""A federation between its rounds: what clients keep, what a checkpoint holds, and how they are measured."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.checkpoints import FEDERATION, describe
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.clock import Clock
from lkd.federated.client.state import ClientStore
from lkd.federated.engines import OWN, LoopEngine
from lkd.federated.members import Members
from lkd.federated.protocol.cache_use import CacheUse
from lkd.federated.protocol.client_data import Client, Part
from lkd.federated.protocol.tensors import moved
from lkd.federated.server.checkpoint import Population, check_resumed, check_state
from lkd.federated.server.checks import check_synced
from lkd.federated.server.local_work import LocalWork
from lkd.federated.server.ranks import Ranks
from lkd.federated.server.records import Record
from lkd.federated.server.round import ServerRound
from lkd.federated.server.weighted_sum import RunningSum


class Measured(Members):
    """Keeps clients and their engine; see `Federation` for the arguments.

    Args:
        client: The first architecture.
        algorithm: What is done in a round.
        work: How much a client trains in a round.
        seed: Of all randomness of a client's work.
        personal: Layers that stay with each client.
        others: Modules of further architectures.
        assign: Architecture of every client.
        common: Layers that the architectures have in common.
        client_timeout: Seconds that a client may take for an answer.

    Raises:
        ValueError: If the seed is below 0, or the time not above.
    """

    def __init__(
        self,
        client: LightningModule,
        algorithm: Algorithm,
        work: LocalWork,
        seed: int,
        personal: list[str] | str | None,
        others: list[LightningModule] | None,
        assign: list[int] | None,
        common: list[str] | str | None,
        client_timeout: float | None,
    ) -> None:
        super().__init__(client, algorithm, personal, others, assign, common)
        expect(seed=seed, ge=0)
        self.work, self.seed = work, seed
        self.store = ClientStore()
        self._clock = Clock(client_timeout)
        self.bytes_down, self.bytes_up = 0, 0
        self.cache: CacheUse | None = None
        self._restored: dict[str, Any] | None = None
        self._clients = Population()  # of this fit, or of the one that goes on
        self._sums: dict[str, RunningSum] = {}

    def _prepare(self, anew: bool) -> None:
        """Prepares this process's worker and engine, and takes up what a checkpoint brought.

        Args:
            anew: Whether algorithm and schedule begin; else they stay where a fit of another Trainer left them.
        """
        self.stations.prepare(self.trainer, self.work, anew, self.algorithm)
        self.engine = LoopEngine(
            self.stations, self.stations.kind_of, self.algorithm, self.store, self.seed, self._clock
        )
        self.ranks = Ranks.of(self.trainer)
        check_synced(self.students, self.ranks.world_size)
        if anew:
            self.algorithm.setup(self.x)
        self._sums.clear()  # of another device or precision, it may be
        if self._restored is not None:
            self._restore(self._restored)
            self._restored = None

    def evaluate(self, clients: Sequence[Client], part: Part = "val") -> list[Record]:
        """Measures every client's model (the server's weights and its own layers) on the client's own data.

        Args:
            clients: Who; those without that part of the data are left out.
            part: `"val"` or `"test"`.

        Returns:
            A record for each, with `metrics`, in the order of their ids; the same on all ranks.
        """
        with self._measuring():
            here = [client for client in clients if client.has(part)]
            server = ServerRound(
                self.global_step, here, len(clients), self.stations, self.engine.exchange, self.ranks
            )
            server.evaluate(part)
        return server.all_records()

    def models(self, clients: Sequence[Client]) -> Iterator[tuple[Client, LightningModule]]:
        """Every client's model in eval mode, one after the other, to be looked at; of this process's clients.

        Args:
            clients: Whose.

        Yields:
            A client and its model, which is the next client's in the next turn.
        """
        with self._measuring():
            for client in clients:
                if self.ranks.owns(client.id):
                    with self.engine.show(client, self.x, self.shared_buffers) as module:
                        yield client, module.eval()

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """Clients can be looked at inside; what that draws, nobody outside sees."""
        # a validation is in inference mode, whose tensors training could not use again
        with torch.inference_mode(False), isolate_rng(include_cuda=self.device.type == "cuda"):
            engine = getattr(self, "engine", None)
            elsewhere = engine is None or self.stations[0].loop.trainer is not self.trainer
            if elsewhere or self._restored is not None:
                self._prepare(anew=engine is None)
            yield

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what algorithm and clients keep; tensors and plain numbers only."""
        super().on_save_checkpoint(checkpoint)
        if hasattr(self, "engine"):
            parts = self.ranks.gather_objects(self.store.state_dict())
            checkpoint[FEDERATION] = {
                **self._run(),
                "modules": [describe(station.source) for station in self.stations],
                "assign": self.assign,
                "serves": self.serves,
                "shares": self.algorithm.shares,
                "population": self._clients.known,
                "state": self.algorithm.state,
                "clients": {client: state for part in parts for client, state in part.items()},
                "optimizer": self.stations.state_dict(),
                "bytes": [self.bytes_down, self.bytes_up],
                "cache": None if self.cache is None else asdict(self.cache),
            }
        elif self._restored is not None:  # nothing was trained or measured
            checkpoint[FEDERATION] = self._restored

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps it until a fit or a measurement starts."""
        self._restored = checkpoint.get(FEDERATION)
        super().on_load_checkpoint(checkpoint)
        if self._restored is not None:  # else of another module, whose names are not these
            check_state(self.held, checkpoint["state_dict"])

    def _restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint; of another algorithm's, only the clients' own layers are of use."""
        resumes = self.trainer.state.fn == "fit" and self.trainer.ckpt_path is not None
        if resumes:
            check_resumed(saved, self._run())
        same, clients = saved["algorithm"] == type(self.algorithm).__name__, saved["clients"]
        if not same:
            clients = {client: {OWN: groups[OWN]} for client, groups in clients.items() if OWN in groups}
        self.store.load_state_dict(clients, self.ranks.rank, self.ranks.world_size)
        # weights go anywhere, what a client kept goes to that client
        self._clients = Population(saved.get("population") if resumes or any(clients.values()) else None)
        if same:
            self.algorithm.state = {k: moved(group, self.device) for k, group in saved["state"].items()}
            self.stations.load_state_dict(saved["optimizer"])
            self.bytes_down, self.bytes_up = saved["bytes"]
            counted = saved.get("cache")  # not in a file of an earlier version
            self.cache = None if counted is None else CacheUse(**counted)

    def _run(self) -> dict[str, str | None]:
        """What has to be the same in a run that goes on from this one; one that measures has no server's optimizer."""
        optimizers = self.trainer.optimizers
        return {
            "algorithm": type(self.algorithm).__name__,
            "server_optimizer": type(optimizers[0]).__name__ if optimizers else None,
            "architectures": f"{len(self.stations)} architectures, assign={self.assign}",
        }
