"""The architectures of a federation: their modules at the server, and the copies of them that train."""

from typing import cast

import torch
from lightning.pytorch import LightningModule

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.delegation import Wrapped
from lkd.federated.engines import Engine, Loop
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.architectures import Architectures, modules
from lkd.federated.server.local_work import LocalWork


class Members(Wrapped):
    """Holds the modules; see `Federation` for the arguments.

    Args:
        client: The first architecture.
        algorithm: What says whether weights are shared, and whose are trained.
        personal: Layers that stay with each client.
        others: Modules of further architectures.
        assign: Architecture of every client.
        common: Layers that the architectures have in common.
        work: How much a client trains in a round.
        seed: Of all randomness of a client's work.
        engine: Where clients work. Default: in this process.
    """

    def __init__(
        self,
        client: LightningModule,
        algorithm: Algorithm,
        personal: list[str] | str | None,
        others: list[LightningModule] | None,
        assign: list[int] | None,
        common: list[str] | str | None,
        work: LocalWork,
        seed: int,
        engine: Engine | None,
    ) -> None:
        super().__init__(client)
        self.algorithm = algorithm
        self.personal = _patterns(personal) if algorithm.aggregates_weights else ["*"]
        self.others, self.assign, self.common = modules(client, others), assign, _patterns(common)
        self.work, self.seed = work, seed
        self.engine = engine or Loop()
        self._architectures: Architectures | None = None

    @property
    def architectures(self) -> Architectures:
        """The modules as the server has them; the engine makes its copies of them at the same moment."""
        if self._architectures is None:
            with torch.inference_mode(
                False
            ):  # a test may be the first to ask, and its tensors could not be written to
                found = Architectures(self.client, self.held[1:], self.assign, self.personal, self.common)
                names = ["client", *(f"others[{i}]" for i in range(len(self.others)))]
                self.engine.open(
                    Description(
                        self.held,
                        names,
                        self.algorithm,
                        self.work.settings,
                        self.personal,
                        self.assign,
                        self.seed,
                    )
                )
                self._architectures = found
        return self._architectures

    @property
    def held(self) -> list[LightningModule]:
        """All architectures."""
        return [self.client, *cast(list[LightningModule], list(self.others))]

    @property
    def students(self) -> list[LightningModule]:
        """The modules that clients train; distillation that is attached to them is part of their training.

        Raises:
            RuntimeError: If they are in other processes.
        """
        assert self.architectures  # which opens the engine
        return self.engine.modules

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
        """Whether the server's model, or a part of it, is trained: by weights that clients share, or by the server itself."""
        trains = bool(self.algorithm.trains_server_model)
        return trains or (self.algorithm.aggregates_weights and (not self.others or self._first_is_shared))

    @property
    def _first_is_shared(self) -> bool:
        """Whether a client has the first architecture, or layers in common with it."""
        return self.assign is None or 0 in self.assign or bool(self.common)


def _patterns(given: list[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])
