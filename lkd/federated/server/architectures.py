"""The architectures of a federation at the server: modules, names, weights."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule

from lkd.federated.protocol.client_data import kind_of
from lkd.federated.protocol.tensor_names import SharedNames, matches, split_names
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.spectral_norms import settle
from lkd.federated.server.tensor_memory import check_memory
from lkd.packages import is_module
from lkd.shown import shown


class Architecture:
    """One architecture at the server.

    Args:
        source: The module, with the weights that clients start from.
        personal_layers: Patterns of the layers that never leave a client.
        prefix: Prefix of the names of its tensors at the server.
        shared_layers: Patterns of layers shared with another architecture, which keep their names at the
            server.
    """

    def __init__(
        self,
        source: LightningModule,
        personal_layers: Sequence[str],
        prefix: str = "",
        shared_layers: Sequence[str] = (),
    ) -> None:
        self.source = source
        self._personal, self._prefix, self._common = list(personal_layers), prefix, list(shared_layers)
        self.index()

    def index(self) -> None:
        """Indexes the names of all tensors, once all layers exist."""
        names = split_names(self.source, self.source, self._personal)
        self.has_own = bool(names.own)
        self.layout = SharedNames(
            {name: self._at_server(name) for name in names.shared},
            {name: self._at_server(name) for name in names.buffers},
        )

    def _at_server(self, name: str) -> str:
        return name if matches(name, self._common) else self._prefix + name

    @torch.no_grad()
    def keep_common(self, first: LightningModule) -> None:
        """Copies the layers in common with the first architecture from there, where they are trained."""
        theirs: dict[str, Any] = {**dict(first.named_parameters()), **dict(first.named_buffers())}
        ours = {**dict(self.source.named_parameters()), **dict(self.source.named_buffers())}
        for name in (*self.layout.weights, *self.layout.buffers):
            if self._prefix and matches(name, self._common):
                ours[name].copy_(theirs[name])


class Architectures(list[Architecture]):
    """All architectures of a federation, and the assignment of clients to them.

    Args:
        model: The first architecture; its tensors keep their names at the server.
        other_models: The other architectures; their tensors' names at the server begin with
            `"other_models.0."` etc.
        client_models: Architecture of every client, by its id. Default: in turns.
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
        super().__init__(
            [
                Architecture(model, personal_layers),
                *(
                    Architecture(m, personal_layers, f"other_models.{i}.", shared_layers)
                    for i, m in enumerate(other_models)
                ),
            ]
        )
        self.client_models = None if client_models is None else list(client_models)
        if self.client_models is not None and not all(0 <= kind < len(self) for kind in self.client_models):
            raise ValueError(
                f"client_models={self.client_models} must give each client an architecture from 0 (model) to {len(self) - 1} (the "
                "last of other_models)."
            )
        for architecture in self:
            check_memory(architecture.source)
        self._check_common(shared_layers)

    def _check_common(self, shared_layers: Sequence[str]) -> None:
        shared = {**self[0].layout.weights, **self[0].layout.buffers}
        theirs = {**dict(self[0].source.named_parameters()), **dict(self[0].source.named_buffers())}
        theirs = {name: tensor for name, tensor in theirs.items() if name in shared}
        for i, one in enumerate(self[1:]):
            ours = {**dict(one.source.named_parameters()), **dict(one.source.named_buffers())}
            names = {**one.layout.weights, **one.layout.buffers}
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
            if not any(matches(own, [pattern]) for one in self[1:] for own in one.layout.weights):
                raise ValueError(
                    f"shared_layers={list(shared_layers)}: {pattern!r} names no shared layer of other_models."
                )

    def check(self, population: int) -> None:
        """Refuses an assignment for another number of clients.

        Raises:
            ValueError: If the numbers differ.
        """
        if self.client_models is not None and len(self.client_models) != population:
            raise ValueError(
                f"client_models has {len(self.client_models)} entries, but there are {population} clients: give each its architecture."
            )

    def kind_of(self, client: int) -> int:
        """Returns the architecture of a client.

        Raises:
            ValueError: If `client_models` has no entry for it.
        """
        return kind_of(client, len(self), self.client_models)

    def prepare(self) -> None:
        """Indexes all layers, as the first fit or measurement finds them."""
        for architecture in self:
            architecture.index()
            architecture.keep_common(self[0].source)

    @property
    def models(self) -> list[LightningModule]:
        """The server's modules."""
        return [architecture.source for architecture in self]

    @property
    def layouts(self) -> list[SharedNames]:
        """Layout of every architecture."""
        return [architecture.layout for architecture in self]

    @property
    def parameters(self) -> Tensors:
        """The server's shared parameters by name, not detached."""
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
        for architecture in self:
            source = architecture.source
            tensors = dict(source.named_parameters() if kind == "weights" else source.named_buffers())
            for own, at in getattr(architecture.layout, kind).items():
                found.setdefault(at, tensors[own])
        return found

    def end_round(self) -> None:
        """Copies common layers from the first architecture, and settles spectral norms."""
        for architecture in self:
            settle(architecture.source)
            architecture.keep_common(self[0].source)


def modules(model: LightningModule, other_models: Sequence[LightningModule] | None) -> torch.nn.ModuleList:
    """Collects the other architectures as a child of the federation, so that checkpoints hold them.

    Args:
        model: The first architecture.
        other_models: The others.

    Raises:
        TypeError: If one is not a LightningModule.
        ValueError: If two share a parameter.
    """
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
