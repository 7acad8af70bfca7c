"""All architectures of a federation in one process, and what the server has of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.model_slot import Station
from lkd.federated.client.tensor_memory import check_memory
from lkd.federated.client.worker import matches
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.tensor_names import Layout
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.local_work import LocalTraining
from lkd.federated.server.spectral_norms import settle
from lkd.packages import is_module
from lkd.shown import shown


class Stations(list[Station]):
    """A station for each architecture, and which client has which.

    Args:
        model: The first architecture; its tensors keep their names at the server.
        other_models: The others; at the server `"other_models.0."` and so on goes before their names.
        client_models: Architecture of every client, by its id; default: one after the other, in turns.
        personal_layers: Patterns of the layers that never leave a client.
        shared_layers: Patterns of layers that the others share with the first one.

    Raises:
        ValueError: For an assignment that does not fit, or common layers that differ.
    """

    def __init__(
        self,
        model: LightningModule,
        other_models: Sequence[LightningModule],
        client_models: Sequence[int] | None,
        personal_layers: Sequence[str],
        shared_layers: Sequence[str],
    ) -> None:
        stations = [Station(model, personal_layers)]
        stations += [
            Station(m, personal_layers, f"other_models.{i}.", shared_layers, f"other_models[{i}]")
            for i, m in enumerate(other_models)
        ]
        super().__init__(stations)
        self._assign = None if client_models is None else list(client_models)
        if self._assign is not None and not all(0 <= kind < len(self) for kind in self._assign):
            raise ValueError(
                f"client_models={self._assign} must give each client an architecture from 0 (model) to {len(self) - 1} (the "
                "last of other_models)."
            )
        for station in self:
            check_memory(station.source)
        self._check_common(shared_layers)

    def _check_common(self, shared_layers: Sequence[str]) -> None:
        shared = {**self[0].layout.weights, **self[0].layout.buffers}
        theirs = {**dict(self[0].source.named_parameters()), **dict(self[0].source.named_buffers())}
        theirs = {name: tensor for name, tensor in theirs.items() if name in shared}
        for i, station in enumerate(self[1:]):
            ours = {**dict(station.source.named_parameters()), **dict(station.source.named_buffers())}
            names = {**station.layout.weights, **station.layout.buffers}
            for own, at in names.items():
                if own == at and (own not in theirs or theirs[own].shape != ours[own].shape):
                    found = (
                        f"has shape {tuple(theirs[own].shape)} there"
                        if own in theirs
                        else "is not shared there"
                    )
                    raise ValueError(
                        f"shared_layers={list(shared_layers)}: {own} of other_models[{i}], of shape {tuple(ours[own].shape)}, {found} in model; "
                        "what is common must be the same layer in all architectures, and train in all or in none."
                    )
        for pattern in shared_layers:
            if not any(matches(own, [pattern]) for s in self[1:] for own in s.layout.weights):
                raise ValueError(
                    f"shared_layers={list(shared_layers)}: {pattern!r} names no shared layer of other_models."
                )

    def check(self, population: int) -> None:
        """Refuses an assignment for another number of clients.

        Raises:
            ValueError: If there is one.
        """
        if self._assign is not None and len(self._assign) != population:
            raise ValueError(
                f"client_models has {len(self._assign)} entries, but there are {population} clients: give each its architecture."
            )

    def check_plateaus(self, clients: Iterable[ClientData]) -> None:
        """Refuses to wait for a value of a validation where a client has no data for one.

        Raises:
            ValueError: With the client.
        """
        waiting = {
            k: s.local_optimizer.plateau for k, s in enumerate(self) if s.local_optimizer.plateau is not None
        }
        for kind, plateau in waiting.items():
            plateau.check(self[kind].source, (c for c in clients if self.kind_of(c.id) == kind))

    def kind_of(self, client: int) -> int:
        """Which architecture a client has.

        Raises:
            ValueError: If `client_models` has no entry for it.
        """
        if self._assign is None:
            return client % len(self)
        if client >= len(self._assign):
            raise ValueError(f"client_models has {len(self._assign)} entries, none for client {client}.")
        return self._assign[client]

    def prepare(self, trainer: Trainer, work: LocalTraining, anew: bool, algorithm: Algorithm) -> None:
        """See `Station.prepare`; the algorithm looks at every local optimizer.

        Raises:
            ValueError: If fp16's scaler would have nothing to scale.
        """
        for station in self:
            station.keep_common(self[0].source)
            station.prepare(trainer, work, anew)
            algorithm.check(station.local_optimizer.optimizer, work.clip, station.local_optimizer.by_step)
        if not self.x and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f"precision='16-mixed': {type(algorithm).__name__} shares nothing, so the server's scaler has nothing to "
                "scale; use 'bf16-mixed' or '32-true'."
            )

    def attach(self, algorithm: Algorithm, cohort: Sequence[ClientData], seed: int) -> None:
        """Lets an algorithm that changes the loss do so, once in the life of every worker."""
        for kind, station in enumerate(self):
            client = next((c for c in cohort if self.kind_of(c.id) == kind), None)
            if not station.attached and client is not None:
                if type(algorithm).attach is not Algorithm.attach:
                    example = next(iter(client.train_batches(seed)))
                    algorithm.attach(station.module, station.loop.on_device(example))
                station.attached = True

    @property
    def layouts(self) -> list[Layout]:
        """Of every architecture."""
        return [station.layout for station in self]

    @property
    def parameters(self) -> Tensors:
        """The server's shared parameters by name, as they are."""
        return self._named("weights")

    @property
    def x(self) -> Tensors:
        """The server's shared weights by name, detached and live."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    @property
    def buffers(self) -> Tensors:
        """The server's shared buffers by name, live."""
        return self._named("buffers")

    def _named(self, kind: str) -> Tensors:
        found: Tensors = {}
        for station in self:
            source = station.source
            tensors = dict(source.named_parameters() if kind == "weights" else source.named_buffers())
            for own, at in getattr(station.layout, kind).items():
                found.setdefault(at, tensors[own])
        return found

    def end_round(self) -> None:
        """Schedules that count rounds go on; layers that are common are learnt in the first architecture."""
        for station in self:
            station.local_optimizer.end_round()
            settle(station.source)
            station.keep_common(self[0].source)

    def state_dict(self) -> list[dict[str, Any]]:
        """The schedules, and what new clients start from where the server's own model has gone on."""
        return [
            {**station.local_optimizer.state_dict(), "start": station.worker.start(station.source)}
            for station in self
        ]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Takes up where a run was interrupted."""
        for station, state in zip(self, states, strict=True):
            station.local_optimizer.load_state_dict(state)
            station.worker.set_start(state.get("start", {}))


def modules(model: LightningModule, other_models: Sequence[LightningModule] | None) -> torch.nn.ModuleList:
    """The other architectures as a child of the federation, so that checkpoints hold what their clients start from."""
    _check_module("model", model)
    if isinstance(other_models, torch.nn.Module) and not isinstance(other_models, torch.nn.ModuleList):
        raise TypeError(f"other_models={shown(other_models)} must be a list of LightningModules.")
    for i, other in enumerate(other_models or ()):
        _check_module(f"other_models[{i}]", other)
    owners: dict[int, int] = {}
    for i, module in enumerate((model, *(other_models or ()))):
        for parameter in module.parameters():
            if (first := owners.setdefault(id(parameter), i)) != i:
                raise ValueError(
                    f"other_models[{i - 1}] has weights of {f'other_models[{first - 1}]' if first else 'model'} itself, not weights like them: make "
                    "each architecture anew, or copy it (copy.deepcopy)."
                )
    return torch.nn.ModuleList(other_models or ())


def _check_module(argument: str, given: Any) -> None:
    if is_module(given):
        return
    right = "such as Classifier(network)"
    if is_module(getattr(given, "_orig_mod", None)):
        right = "and is copied: give the module itself, and compile its network, as self.net = torch.compile(self.net)"
    raise TypeError(f"{argument}={shown(given)} must be a LightningModule, {right}.")
