"""Federated distillation over public data in four steps: predict, agree, digest, train."""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lkd.batches import Keys, call_of
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, stackable
from lkd.federated.client.configured_optimizers import parse
from lkd.federated.client.context import ClientContext, ClientView
from lkd.federated.client.single_samples import normalizes, try_one
from lkd.federated.knowledge.common.batch_inputs import public_batches, run
from lkd.federated.knowledge.common.compatibility import check_sizes
from lkd.federated.knowledge.common.consensus import stacked
from lkd.federated.knowledge.common.distill_public import Compare, comparing, distill, lessons
from lkd.federated.knowledge.common.forward import draw, outputs_of
from lkd.federated.protocol.messages import Config
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Tensors
from lkd.taps import Call

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class PublicExchange(Algorithm):
    """Base of algorithms with public data: clients predict, the server makes targets, clients learn them.

    A subclass says how predictions become targets (`agree`) and how they are learned (`compare`). Travels:
    logits of the round's public samples up, targets down; the samples follow from the seed. Weights never
    leave a client, so clients may have any architectures whose outputs have the same classes in the same
    order.

    Args:
        samples: Public samples in a round, drawn anew each round, at most as many as there are; None for all
            of them.
        epochs: Passes over them in which a client digests (learns) the targets.
        batch_size: Samples in a step of the digestion.
        layer: Layer of the client's module that gives the logits; `""` is its forward's output.
        warmup: Rounds of private training before the first exchange, since predictions of untrained models
            are worthless.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers below 1 (`warmup`: 0), and, before any training, if there are no public data
            or clients have different classes.
    """

    aggregates_weights = False
    supports_multiple_models = True
    needs_public_data = True
    trains_first = False
    """Whether clients train before the exchange; else they digest and then train."""

    def __init__(
        self,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 256,
        layer: str = "",
        warmup: int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__("uniform")
        expect(samples=samples, ge=1, none="all of them")
        expect(epochs=epochs, batch_size=batch_size, ge=1)
        expect(warmup=warmup, ge=0)
        self.samples, self.epochs, self.batch_size = samples, epochs, batch_size
        self.layer, self.warmup, self.input_key = layer, warmup, input_key
        self._checked = False

    def setup(self, x: Tensors) -> None:
        """Makes the next round check the clients' sizes again."""
        self._checked = False

    def agree(self, server: "ServerRound", logits: Tensor, clients: list[int]) -> Tensor | dict[int, Tensor]:
        """Makes targets `(N, ...)` of the predictions, for all clients, or for each by its id.

        Args:
            server: The round.
            logits: Logits of the clients, `(K, N, C)`, float64.
            clients: The clients' ids, in the same order.
        """
        raise NotImplementedError

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the loss of a student's logits `(B, C)` against targets."""
        raise NotImplementedError

    def round(self, server: "ServerRound") -> Tensors:
        """Runs exchange and training, in the method's order."""
        public, config = server.public, {"seed": server.seed}
        self._check(server)
        if server.index < self.warmup:
            return server.mean(server.train())["delta"]
        delta = server.mean(server.train())["delta"] if self.trains_first else {}
        targets = self.targets(server, config)
        if isinstance(targets, dict):
            knowledge = {i: {"targets": target.float()} for i, target in targets.items()}
        else:
            knowledge = self.lessons(server, targets.float())
            self.learn(server, targets.float(), len(public))
        if not self.trains_first:
            return server.mean(server.train(knowledge=knowledge, config=config))["delta"]
        self.taught(server, [reply.client for reply in server.call("digest", knowledge, config=config)])
        return delta

    def targets(self, server: "ServerRound", config: Config) -> Tensor | dict[int, Tensor]:
        """Asks the clients for predictions, and makes targets of them."""
        told = server.gather(server.call("predict", config=config))
        return self.agree(server, stacked(told, "logits"), [t.client for t in told])

    def lessons(self, server: "ServerRound", targets: Tensor) -> dict[int, Tensors]:
        """Selects the targets `(N, ...)`, float32, that each client is sent: all of them."""
        return {i: {"targets": targets} for i in server.cohort}

    def taught(self, server: "ServerRound", clients: list[int]) -> None:
        """Notes, at the server, which of this rank's clients have digested what they were sent."""

    def _check(self, server: "ServerRound") -> None:
        """Refuses, before any training, clients with different classes and batches of one sample."""
        if not self._checked:
            check_sizes(server, self.layer, input_key=self.input_key)
            rows = self.rows(server.seed, 0, len(server.public))
            if len(rows) % self.batch_size == 1:
                told = f"batch_size={self.batch_size} of {len(rows)} public samples leaves a batch of one"
                (one,) = public_batches(server.public, [0], 1, server.runtime, self.input_key)
                for model in filter(normalizes, server.models):
                    try_one(model, functools.partial(run, model, call_of(model, one, self.input_key)), told)
            self._checked = True

    def rows(self, seed: int, round: int, size: int) -> np.ndarray:
        """Draws the numbers of the round's public samples, none of them twice."""
        return draw(seed, round, size, None if self.samples is None else min(self.samples, size))

    def learn(self, server: "ServerRound", targets: Tensor, size: int) -> None:
        """Trains the server's model on the targets; does nothing here, for methods without such a model."""

    @stackable
    def predict(self, context: ClientContext) -> None:
        """Replies the client's logits of the round's samples."""
        rows, *others = [self.asked(one) for one in context.members]
        if not all(np.array_equal(rows, other) for other in others):
            raise ValueError(f"{type(self).__name__}.asked gives clients other samples than one another")
        (context.reply_tensors["logits"],) = outputs_of(
            context, rows, [self.layer], self.batch_size, self.input_key
        )

    def asked(self, client: ClientView) -> np.ndarray:
        """Returns the numbers of the samples that the client predicts: all of the round's."""
        return self._drawn(client)

    def told(self, client: ClientView) -> Tensor:
        """Returns the targets of the round's samples, as the client was sent them."""
        return client.knowledge["targets"]

    def begin(self, context: ClientContext) -> None:
        """Digests what the client was sent, before private training."""
        if "targets" in context.knowledge:
            self._digest(context)
            context.loop.local_optimizer.begin_client()  # no momentum from the digestion

    @stackable
    def digest(self, context: ClientContext) -> None:
        """Digests what the client was sent, after private training."""
        context.loop.local_optimizer.begin_client()
        self._digest(context)
        context.save_state = True

    def _digest(self, context: ClientContext) -> None:
        module, loop = context.module, context.loop

        def learned(one: ClientView) -> Iterator[tuple[Call, Tensor]]:
            rows, targets = self._drawn(one), self.told(one)
            return lessons(
                module,
                one.public,
                rows,
                targets,
                loop,
                one.seed,
                self.epochs,
                self.batch_size,
                self.input_key,
            )

        context.minimize(
            [learned(one) for one in context.members], comparing(module, self.layer, self.compare)
        )

    def _drawn(self, client: ClientView) -> np.ndarray:
        return self.rows(client.config["seed"], client.round, len(client.public))


def at_server(
    server: "ServerRound",
    rows: np.ndarray,
    targets: Tensor,
    compare: Compare,
    epochs: int,
    batch_size: int,
    layer: str | Sequence[str] = "",
    part: int = 0,
    input_key: Keys | None = None,
) -> None:
    """Trains the server's model on public samples, as `distill` trains a client's.

    The optimizer is the module's own, begun anew every time, as a client's is; the server has no schedule.

    Args:
        server: The round.
        rows: Numbers of the samples.
        targets: `(N, ...)`, one for each of `rows`.
        compare: Computes the loss of a batch.
        epochs: Passes over the samples.
        batch_size: Samples in a step.
        layer: Layer that is compared, or several.
        part: Number of this training, where a round has several; it changes the seed.
        input_key: Entries of a public batch that the forward is given, see `call_of`.
    """
    module = server.models[0]
    optimizer = parse(module.configure_optimizers(), type(module).__name__)[0]
    seed = derive(server.seed, server.index, server.population + part)  # differs from all clients' seeds
    seed_everything(seed, module.device)  # so that all ranks train alike
    with torch.enable_grad():
        distill(
            module,
            optimizer,
            server.public,
            rows,
            targets,
            compare,
            server.runtime,
            seed,
            epochs,
            batch_size,
            layer,
            input_key=input_key,
        )
