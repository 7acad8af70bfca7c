"""The architectures of a federation: their modules at the server, and the training copies."""

from typing import cast

import torch
from lightning.pytorch import LightningModule

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.delegation import Wrapped
from lkd.federated.codecs.base import Codec
from lkd.federated.engines import Auto, Engine
from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.architectures import Architectures, modules
from lkd.federated.server.local_work import LocalTraining


class Members(Wrapped):
    """Base of `Federation` that holds the modules; see there for the arguments.

    Args:
        model: The first architecture.
        algorithm: Says whether weights are shared, and whether the server's model is trained.
        personal_layers: Layers that stay with each client.
        other_models: Modules of further architectures.
        client_models: Architecture of every client.
        shared_layers: Layers that the architectures have in common.
        local: How much a client trains in a round.
        seed: Seed of all randomness of a client's work.
        engine: Where clients work. Default: in this process.
        codec: Form in which changes of the weights travel.
        privacy: Client-level differential privacy.
    """

    def __init__(
        self,
        model: LightningModule,
        algorithm: Algorithm,
        personal_layers: list[str] | str | None,
        other_models: list[LightningModule] | None,
        client_models: list[int] | None,
        shared_layers: list[str] | str | None,
        local: LocalTraining,
        seed: int,
        engine: Engine | None,
        codec: Codec | None,
        privacy: ClientDP | None,
    ) -> None:
        super().__init__(model)
        self.algorithm = algorithm
        self.personal_layers = _patterns(personal_layers) if algorithm.aggregates_weights else ["*"]
        self.other_models, self.client_models, self.shared_layers = (
            modules(model, other_models),
            client_models,
            _patterns(shared_layers),
        )
        self.local, self.seed = local, seed
        self.engine, self.codec, self.privacy = engine or Auto(), codec, privacy
        self._architectures: Architectures | None = None

    @property
    def architectures(self) -> Architectures:
        """The modules as the server has them; on first access the engine makes its copies of them."""
        if self._architectures is None:
            with torch.inference_mode(
                False
            ):  # a test may come first, and training could not write to inference tensors
                found = Architectures(
                    self.model, self.held[1:], self.client_models, self.personal_layers, self.shared_layers
                )
                names = ["model", *(f"other_models[{i}]" for i in range(len(self.other_models)))]
                self.engine.open(
                    Description(
                        self.held,
                        names,
                        self.algorithm,
                        self.local.settings,
                        self.personal_layers,
                        self.client_models,
                        self.seed,
                        self.codec,
                        self.privacy,
                    )
                )
                self._architectures = found
        return self._architectures

    @property
    def held(self) -> list[LightningModule]:
        """The modules of all architectures, `model` first."""
        return [self.model, *cast(list[LightningModule], list(self.other_models))]

    @property
    def students(self) -> list[LightningModule]:
        """The modules that clients train; a distillation attached to them becomes part of the training.

        Raises:
            RuntimeError: If clients work in other processes.
        """
        assert self.architectures  # its first access opens the engine
        return self.engine.modules

    @property
    def monitors(self) -> list[tuple[str, str]]:
        """What waits for which value of the clients; empty if they work in other processes."""
        return self.engine.monitors

    @property
    def x(self) -> Tensors:
        """The server's shared weights by name, detached and live."""
        return self.architectures.x

    @property
    def shared_buffers(self) -> Tensors:
        """The server's shared buffers by name, live."""
        return self.architectures.buffers

    @property
    def trains_server_model(self) -> bool:
        """Whether the server's model, or a part of it, is trained, by clients or by the server itself."""
        trains = bool(self.algorithm.trains_server_model)
        return trains or (
            self.algorithm.aggregates_weights and (not self.other_models or self._first_is_shared)
        )

    @property
    def _first_is_shared(self) -> bool:
        """Whether some client has the first architecture, or layers in common with it."""
        return self.client_models is None or 0 in self.client_models or bool(self.shared_layers)


def _patterns(given: list[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])
