"""The joint answer of the models that clients sent, computed without keeping the models."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lkd.batches import Keys
from lkd.copies import copied
from lkd.federated.knowledge.common.batch_inputs import public_calls
from lkd.federated.knowledge.common.consensus import Of, consensus
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.protocol.messages import Reply
from lkd.federated.server.robust import Rule

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


@torch.no_grad()
def as_client(server: "ServerRound", models: Sequence[LightningModule], reply: Reply) -> LightningModule:
    """Returns the model of the client's architecture, with the weights and buffers that the client sent.

    Args:
        server: The round.
        models: Copies of `server.models`.
        reply: The client's reply to `train`.
    """
    kind = server.kind_of(reply.client)
    model = models[kind]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for own, at in server.layout(kind).weights.items():
        tensors[own].copy_(server.x[at] + reply.tensors["delta"][own])
    for own, value in reply.tensors["buffers"].items():
        tensors[own].copy_(value)
    return model


class ClientEnsemble:
    """Average logits, or probabilities, of the clients' models on public samples; clients count alike.

    Args:
        server: The round; the clients' weights are loaded into copies of `server.models`, one after the
            other.
        layer: Layer that gives the logits.
        batch_size: Samples at once.
        of: What is averaged, `"logits"` or `"probabilities"`.
        temperature: Temperature of the softmax.
        rule: A robust rule in place of the average.
        input_key: Entries of a public batch that the models' forward is given, see `call_of`.
    """

    def __init__(
        self,
        server: "ServerRound",
        layer: str,
        batch_size: int,
        of: Of,
        temperature: float,
        rule: Rule | None = None,
        input_key: Keys | None = None,
    ) -> None:
        self._server, self._layer, self._batch_size = server, layer, batch_size
        self._of, self._temperature, self._rule, self._input_key = of, temperature, rule, input_key
        self._models = [copied(model, "model") for model in server.models]
        self._said: list[tuple[int, Tensor]] = []

    def listen(self, replies: Iterable[Reply]) -> Iterator[Reply]:
        """Passes replies to `train` on, and runs each client's model on the public samples on the way."""
        for reply in replies:
            self._add(reply)
            yield reply

    @torch.no_grad()
    def _add(self, reply: Reply) -> None:
        server = self._server
        model = as_client(server, self._models, reply)
        loop, public = server.runtime, server.public
        given = public_calls(model, public, range(len(public)), self._batch_size, loop, self._input_key)
        (logits,) = outputs(model, given, [self._layer], loop.trainer)
        self._said.append((reply.client, logits.cpu()))

    def logits(self) -> Tensor:
        """Returns the logits of each client's model, `(K, N, C)` in float64, over all ranks.

        A model that says something that is not finite is left out, with a warning.

        Raises:
            FloatingPointError: If no model is left.
        """
        everyone = sorted((one for part in self._server.gather_objects(self._said) for one in part), key=_id)
        kept = [logits.double() for _, logits in everyone if logits.isfinite().all()]
        if len(kept) < len(everyone):
            spoiled = ", ".join(str(i) for i, logits in everyone if not logits.isfinite().all())
            sentence = f"round {self._server.index}: what the models of clients {spoiled} say of the public data is not finite (NaN or infinite)"
            if not kept:
                raise FloatingPointError(
                    f"{sentence}, and nobody is left to learn from: look for bad values in the public data."
                )
            rank_zero_warn(f"{sentence}; they are left out of the ensemble.")
        return torch.stack(kept)

    def answer(self) -> Tensor:
        """Returns the ensemble's probabilities `(N, C)`."""
        joined = consensus(self.logits(), self._of, self._temperature, rule=self._rule)
        return joined if self._of == "probabilities" else (joined / self._temperature).softmax(1)


def _id(said: tuple[int, Tensor]) -> int:
    return said[0]
