"""FedGKT: small models at the clients, and a large one at the server that takes their features."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.addresses import described, find_layer
from lkd.batches import Keys, call_of
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.configured_optimizers import parse
from lkd.federated.client.context import ClientContext
from lkd.federated.client.minimize import minimize
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_inputs import run
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.knowledge.common.sample_indices import places
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Lists, Tensors, moved
from lkd.federated.server.aggregation import ClientReply
from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss
from lkd.packages import is_module
from lkd.shown import shown
from lkd.taps import Call, Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

SERVER = 0x736572  # separates the server's random draws from the clients'


def gkt_server_loss(
    logits: Tensor, client: Tensor, labels: Tensor, alpha: float = 1.0, temperature: float = 3.0
) -> Tensor:
    """Computes the loss of the server's model, mean over the batch.

    It is `alpha CE(softmax(z_s), y) + T^2 KL(softmax(z_c / T) || softmax(z_s / T))`.

    Args:
        logits: `z_s`, logits of the server, `(B, C)`.
        client: `z_c`, logits of the client that has the samples, `(B, C)`; a constant.
        labels: `(B,)`.
        alpha: Weight of the cross entropy.
        temperature: T.

    Example:
        >>> both = torch.tensor([[2.0, 0.0]])
        >>> gkt_server_loss(both, both, torch.tensor([0]))
        tensor(0.1269)
    """
    return alpha * F.cross_entropy(full_precision(logits), labels) + kd_loss(logits, client, temperature)


class FedGKT(Algorithm):
    """Group knowledge transfer: the server trains a large model on clients' features, and returns its logits.

    He, Annavaram and Avestimehr, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge",
    NeurIPS 2020, arXiv:2007.14513, Algorithm 1. A client trains its small model, an extractor with a head, by
    its own loss plus `alpha T^2 KL(softmax(z_s / T) || softmax(z_c / T))`, where z_s are the logits that the
    server's model gave its samples in the round before (none in the first). Then it sends features, logits
    and labels of all its training samples, on which the server trains by `gkt_server_loss`. The weight alpha
    of the KL at the client and of the CE at the server, and T = 3, are those of the authors' code; the paper
    has alpha = 1.

    Here the server shuffles the samples of all clients (the authors take client after client), its optimizer
    begins anew in every round, and the logits that it sends are those of the trained model in eval mode.

    Travels: features, logits and labels of every training sample up, the server's logits down; no weights.
    Labels leave the clients. Clients may have any extractors with features of one shape. A client's metrics
    are those of its small model; `predict` uses both parts.

    Args:
        server: The large model: a module that maps features to logits, such as a `Classifier`; its optimizer
            trains it.
        features: Layer of the clients' modules that gives the features for the server.
        layer: Layer that gives the clients' logits; `""` is the module's output.
        alpha: Weight of KL at the client and of CE at the server. At 0 clients train alone.
        temperature: T.
        epochs: The server's passes over all features in a round.
        batch_size: Samples in a step of the server.
        label_key: Key or index of the labels in a batch.
        input_key: Entry of a batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range, a layer that does not exist, or features or logits of different
            shapes.
        TypeError: If `server` is not a LightningModule.

    Example:
        >>> from torch import nn
        >>> from lkd.modules import Classifier
        >>> FedGKT(Classifier(nn.Linear(8, 3), num_classes=3), features="network.0").temperature
        3.0
    """

    aggregates_weights = False
    supports_multiple_models = True

    def __init__(
        self,
        server: LightningModule,
        features: str,
        layer: str = "",
        alpha: float = 1.0,
        temperature: float = 3.0,
        epochs: int = 1,
        batch_size: int = 64,
        label_key: str | int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__()
        if not is_module(server):
            raise TypeError(f"server={shown(server)} must be a LightningModule, such as a Classifier.")
        expect(alpha=alpha, ge=0)
        expect(temperature=temperature, gt=0)
        expect(epochs=epochs, batch_size=batch_size, ge=1)
        self.server, self.features, self.layer = server, features, layer
        self.alpha, self.temperature = alpha, temperature
        self.epochs, self.batch_size = epochs, batch_size
        self.input_key, self.label_key = input_key, label_key
        self._start = copy.deepcopy(server.state_dict())

    def setup(self, x: Tensors) -> None:
        """Starts with the original weights of the server's model."""
        self.state = {"server": moved(self._start, "cpu")}

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the distillation to the module's loss."""
        find_layer(module, self.features, "features")
        add_loss(module, self._extra, [self.layer], "train/distillation_loss")

    def begin(self, context: ClientContext) -> None:
        """Takes the server's logits for the client's samples."""
        context.scratch.update(targets=context.knowledge.get("logits"), places=places(context))

    def _extra(self, scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor | None:
        if scratch["targets"] is None or not self.alpha:
            return None
        targets = scratch["targets"][next(scratch["places"])]
        return self.alpha * kd_loss(taps.output(self.layer), targets, self.temperature)

    def finish(self, context: ClientContext) -> Lists:
        """Replies features, logits and labels of all training samples, in order, by the trained model."""
        loop, labels = context.loop, []

        def inputs() -> Any:
            for given in context.client.ordered_batches("train"):
                batch = loop.on_device(given)
                labels.append(labels_of(batch, self.label_key))
                yield call_of(context.module, batch, self.input_key, self.label_key)

        features, logits = outputs(context.module, inputs(), [self.features, self.layer], loop.trainer)
        context.reply_tensors = {"features": features, "logits": logits, "labels": torch.cat(labels)}
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains the clients, then the server on their replies, and computes its answers."""
        sent = {int(client): {"logits": z} for client, z in self.state.get("logits", {}).items()}
        knowledge = {i: sent.get(i, {}) for i in server.cohort}
        told = server.gather(server.train(knowledge=knowledge))
        self.server.load_state_dict(self.state["server"])
        self.server.to(server.models[0].device)
        self._train(server, told)
        answers = {str(t.client): self._answer(server, t.knowledge["features"]) for t in told}
        # a client that was away keeps the last answer that it was to get
        self.state["logits"] = {**self.state.get("logits", {}), **answers}
        self.state["server"] = moved(self.server.state_dict(), "cpu")
        return {}

    def _train(self, server: "ServerRound", told: list[ClientReply]) -> None:
        """Trains the server's model, with the same steps on every rank."""
        for what, name, must in (
            ("features", self.features, "their extractors must end in features of one shape"),
            ("logits", self.layer, "all must have the same classes in the same order"),
        ):
            shapes = {tuple(t.knowledge[what].shape[1:]) for t in told}
            if len(shapes) > 1:
                raise ValueError(
                    f"{'layer' if what == 'logits' else what}={name!r} gives {' and '.join(map(str, sorted(shapes)))} at different "
                    f"clients: {must}."
                )
        self._check(told[0].knowledge)
        device, seed = self.server.device, derive(server.seed, server.index, SERVER)
        data = [torch.cat([t.knowledge[n] for t in told]) for n in ("features", "logits", "labels")]
        generator = np.random.default_rng(seed)

        def batches() -> Iterator[list[Tensor]]:
            for _ in range(self.epochs):
                for rows in torch.from_numpy(generator.permutation(len(data[0]))).split(self.batch_size):
                    yield [tensor[rows].to(device) for tensor in data]

        def loss(batch: list[Tensor]) -> Tensor:
            features, logits, labels = batch
            return gkt_server_loss(self.server(features), logits, labels, self.alpha, self.temperature)

        seed_everything(seed, device)  # in case the model has dropout
        optimizer = parse(self.server.configure_optimizers(), type(self.server).__name__)[0]
        with torch.enable_grad():
            minimize(self.server, optimizer, batches(), loss, server.runtime.trainer)

    @torch.no_grad()
    def _check(self, sent: Tensors) -> None:
        """Refuses a server's model that does not map the clients' features to as many classes as theirs."""
        one, classes = sent["features"][:1], tuple(sent["logits"].shape[1:])
        try:
            said = self.server.eval()(one.to(self.server.device))
        except RuntimeError as error:
            raise ValueError(
                f"server={type(self.server).__name__} fails on features={self.features!r} {tuple(one.shape)}, a sample's: {error}"
            ) from error
        if not isinstance(said, Tensor) or tuple(said.shape[1:]) != classes:
            raise ValueError(
                f"server={type(self.server).__name__} gives {described(said)} for a sample's features, and the clients' logits are of "
                f"{classes} classes: its forward must return logits of the same classes in the same order."
            )

    def _answer(self, server: "ServerRound", features: Tensor) -> Tensor:
        calls = (Call((part.to(self.server.device),), {}) for part in features.split(self.batch_size))
        return outputs(self.server, calls, [""], server.runtime.trainer)[0].cpu()

    @torch.no_grad()
    def predict(self, module: LightningModule, x: Any) -> Tensor:
        """Predicts by a client's extractor and the server's model together, in eval mode.

        Args:
            module: The client's module, see `Federation.models`.
            x: An input batch, or a `Call` where the forward takes several inputs.

        Returns:
            Logits `(B, C)`.
        """
        with Taps(module.eval(), [self.features], "features") as taps:
            run(module, x if isinstance(x, Call) else Call((x,), {}))
        self.server.load_state_dict(self.state["server"])
        return self.server.eval()(taps.output(self.features))
