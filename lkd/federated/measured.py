"""A federation between its rounds: preparation, checkpoints, and measurements of clients."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.checkpoints import FEDERATION, check_current, describe
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.verbs import CODE, OWN
from lkd.federated.codecs.base import Codec
from lkd.federated.engines import Engine
from lkd.federated.members import Members
from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.protocol.cache_use import CacheUse
from lkd.federated.protocol.client_data import ClientData, ClientInfo, Part
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.runtime import Runtime
from lkd.federated.protocol.tensors import Tensors, moved
from lkd.federated.server.checkpoint import ClientRoster, check_resumed, check_state
from lkd.federated.server.checks import check_synced
from lkd.federated.server.decoding import decoding
from lkd.federated.server.local_work import LocalTraining
from lkd.federated.server.privacy_budget import PrivacyBudget
from lkd.federated.server.ranks import Ranks
from lkd.federated.server.records import Record
from lkd.federated.server.round import ServerRound
from lkd.federated.server.weighted_sum import RunningSum


class Measured(Members):
    """Base of `Federation` that keeps clients and engine; see there for the arguments.

    Args:
        model: The first architecture.
        algorithm: What happens in a round.
        local: How much a client trains in a round.
        seed: Seed of all randomness of a client's work.
        personal_layers: Layers that stay with each client.
        other_models: Modules of further architectures.
        client_models: Architecture of every client.
        shared_layers: Layers that the architectures have in common.
        client_timeout: Seconds that a client may take for an answer.
        engine: Where clients work.
        codec: Form in which changes of the weights travel.
        privacy: Client-level differential privacy.

    Raises:
        ValueError: If the seed is below 0, or `client_timeout` is not above 0.
    """

    def __init__(
        self,
        model: LightningModule,
        algorithm: Algorithm,
        local: LocalTraining,
        seed: int,
        personal_layers: list[str] | str | None,
        other_models: list[LightningModule] | None,
        client_models: list[int] | None,
        shared_layers: list[str] | str | None,
        client_timeout: float | None,
        engine: Engine | None,
        codec: Codec | None,
        privacy: ClientDP | None,
    ) -> None:
        super().__init__(
            model,
            algorithm,
            personal_layers,
            other_models,
            client_models,
            shared_layers,
            local,
            seed,
            engine,
            codec,
            privacy,
        )
        expect(seed=seed, ge=0)
        expect(client_timeout=client_timeout, gt=0, none="no limit", why="it is in seconds")
        self.client_timeout = client_timeout
        self.ranks = Ranks()
        self._prepared_for: Any = None  # the Trainer
        self.bytes_down, self.bytes_up = 0, 0
        self.cache: CacheUse | None = None
        self.budget = None if privacy is None else PrivacyBudget(privacy, seed)
        self._restored: dict[str, Any] | None = None
        self._clients = ClientRoster()  # of this fit, or of the resumed one
        self._sums: dict[str, RunningSum] = {}

    def _prepare(self, anew: bool) -> None:
        """Prepares architectures and engine, and restores what a loaded checkpoint holds.

        Args:
            anew: Whether algorithm and schedules begin anew; else they continue from a fit with another
                Trainer.
        """
        self.architectures.prepare()
        self.engine.prepare(self.trainer, anew)
        if not self.x and getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f"precision='16-mixed': {type(self.algorithm).__name__} shares nothing, so the server's scaler has nothing to "
                "scale; use 'bf16-mixed' or '32-true'."
            )
        self.runtime = Runtime(self.model, self.trainer, *self.local.settings[:2])
        self.ranks = Ranks.of(self.trainer)
        check_synced(self.architectures.models, self.ranks.world_size)
        self._prepared_for = self.trainer
        if anew:
            self.algorithm.setup(self.x)
        self._sums.clear()  # they may be of another device or precision
        if self._restored is not None:
            self._restore(self._restored)
            self._restored = None

    def evaluate(self, clients: Sequence[ClientData], part: Part = "val") -> list[Record]:
        """Measures every client's model (the server's weights and its own layers) on the client's own data.

        Args:
            clients: The clients; those without data of that part are left out.
            part: `"val"` or `"test"`.

        Returns:
            A record for each, with `metrics`, in the order of their ids; the same on all ranks.
        """
        if self.budget is not None:
            self.budget.own_up()
        with self._measuring():
            here = [client for client in clients if client.has(part)]
            self.engine.enter(here)
            server = ServerRound(
                self.global_step,
                [ClientInfo.of(client) for client in here],
                len(clients),
                self.architectures,
                self._exchange,
                self.runtime,
                self.ranks,
            )
            server.evaluate(part)
        return server.all_records()

    def models(self, clients: Sequence[ClientData]) -> Iterator[tuple[ClientData, LightningModule]]:
        """Yields every client's model in eval mode, one after the other; only of this process's clients.

        Args:
            clients: The clients.

        Yields:
            A client and its model. The next turn turns the same module into the next client's model.
        """
        with self._measuring():
            for client in clients:
                if self.ranks.owns(client.id):
                    layout = self.architectures[self.architectures.kind_of(client.id)].layout
                    x, buffers = layout.of_client(self.x), layout.of_client(self.shared_buffers)
                    with self.engine.show(client.id, x, buffers) as module:
                        yield client, module.eval()

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """Makes clients ready to be measured inside; random draws inside have no effect outside."""
        # a validation runs in inference mode, whose tensors could not be used in training
        with torch.inference_mode(False), isolate_rng(include_cuda=self.device.type == "cuda"):
            elsewhere = self._prepared_for is not self.trainer
            if elsewhere or self._restored is not None:
                self._prepare(anew=self._prepared_for is None)
            yield

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what algorithm and clients keep, as tensors and plain values only."""
        super().on_save_checkpoint(checkpoint)
        if self._prepared_for is not None:
            here = self.engine.state_dict()
            parts = self.ranks.gather_objects(here["clients"])
            checkpoint[FEDERATION] = {
                **self._run(),
                "modules": [describe(model) for model in self.architectures.models],
                "client_models": self.client_models,
                "trains_server_model": self.trains_server_model,
                "aggregates_weights": self.algorithm.aggregates_weights,
                "population": self._clients.known,
                "state": self.algorithm.state,
                "clients": {client: state for part in parts for client, state in part.items()},
                "optimizer": [self._of_start(kind, slot) for kind, slot in enumerate(here["slots"])],
                "bytes": [self.bytes_down, self.bytes_up],
                "cache": None if self.cache is None else asdict(self.cache),
                "privacy": None if self.budget is None else self.budget.state_dict(),
            }
        elif self._restored is not None:  # nothing was trained or measured, so the former state goes on
            checkpoint[FEDERATION] = self._restored

    def _of_start(self, kind: int, slot: dict[str, Any]) -> dict[str, Any]:
        """Removes, from an engine's state of an architecture, the tensors that equal the server's own."""
        source = self.architectures[kind].source
        now = {**dict(source.named_parameters()), **dict(source.named_buffers())}
        start = slot["start"].items()
        return {**slot, "start": {n: t for n, t in start if n in now and not torch.equal(t, now[n].to(t))}}

    def _exchange(self, verb: str, messages: dict[int, Message]) -> Iterator[Reply]:
        def raw(verb: str, messages: dict[int, Message]) -> Iterator[Reply]:
            return self.engine.exchange(verb, messages, self.client_timeout)

        return (raw if self.codec is None else decoding(raw, self.codec, self._like))(verb, messages)

    def _like(self, client: int) -> Tensors:
        """Returns the weights that a client shares, by its own names."""
        return self.architectures[self.architectures.kind_of(client)].layout.of_client(self.x)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the federation's part until a fit or a measurement starts."""
        check_current(checkpoint)
        self._restored = checkpoint.get(FEDERATION)
        super().on_load_checkpoint(checkpoint)
        if self._restored is not None:  # otherwise the checkpoint is of another module with other names
            check_state(self.held, checkpoint["state_dict"])

    def _restore(self, saved: dict[str, Any]) -> None:
        """Restores a checkpoint; from another algorithm's it takes only the clients' own layers."""
        resumes = self.trainer.state.fn == "fit" and self.trainer.ckpt_path is not None
        if resumes:
            check_resumed(saved, self._run())
        same, clients = saved["algorithm"] == type(self.algorithm).__name__, saved["clients"]
        if not same:
            clients = {client: {OWN: groups[OWN]} for client, groups in clients.items() if OWN in groups}
        if saved.get("codec", "none") != self._run()["codec"]:  # what another one left out
            clients = {c: {g: t for g, t in groups.items() if g != CODE} for c, groups in clients.items()}
        slots = saved["optimizer"] if same else None
        self.engine.load_state_dict({c: s for c, s in clients.items() if self.ranks.owns(c)}, slots)
        # weights alone fit any clients, a client's state fits that client only
        self._clients = ClientRoster(saved.get("population") if resumes or any(clients.values()) else None)
        if same:
            self.algorithm.state = {k: moved(group, self.device) for k, group in saved["state"].items()}
            self.bytes_down, self.bytes_up = saved["bytes"]
            counted = saved.get("cache")  # missing in a checkpoint of an earlier version
            self.cache = None if counted is None else CacheUse(**counted)
        if self.budget is not None:
            self.budget.load_state_dict(saved.get("privacy"))

    def _run(self) -> dict[str, str | None]:
        """Describes what must stay the same in a resumed run; without a fit there is no server optimizer."""
        optimizers = self.trainer.optimizers
        return {
            "algorithm": type(self.algorithm).__name__,
            "server_optimizer": type(optimizers[0]).__name__ if optimizers else None,
            "codec": "none" if self.codec is None else repr(self.codec),
            "privacy": "none" if self.privacy is None else self.privacy.mechanism,
            "architectures": f"{len(self.architectures)} architectures, client_models={self.client_models}",
        }
