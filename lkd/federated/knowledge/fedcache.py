"""FedCache: a cache of every sample's logits, from which clients learn on similar samples."""

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.addresses import find_layer
from lkd.batches import Keys, call_of
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.knowledge.common.nearest_samples import mean_of_rows, nearest_of_class
from lkd.federated.knowledge.common.sample_indices import places
from lkd.federated.protocol.cache_use import CacheUse
from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.tensors import Lists, Tensors, moved
from lkd.losses.logit import kd_loss
from lkd.taps import Call, Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

ENCODER = "encoder/"
"""Prefix of the encoder's tensors in a message."""
HASHED = "hashed"


class FedCache(Algorithm):
    """Distillation of each sample from the mean cached logits of the R most similar samples of its class.

    Wu et al., "FedCache: A Knowledge Cache-driven Federated Learning Architecture for Personalized Edge
    Intelligence", 2023, arXiv:2308.07816. The server keeps hash, label and logits of all samples; a client
    minimizes `L + alpha T^2 KL(softmax(m / T) || softmax(z / T))`, m the mean of the cached logits of the
    related samples, by cosine. alpha = 1.5, R = 16, T = 3 and the mean of raw logits are those of the
    authors' code.

    Here neighbors are exact (the authors approximate them by HNSW), the cache holds the logits of the trained
    model in eval mode (the authors': those of each training step), and in its first round a client learns
    nothing from the cache (the authors' begins with zeros, which pull to the uniform distribution). Hashes
    are sent with a client's first logits.

    Travels: once the encoder down, hashes and labels up; in a round each sample's logits up, its teacher's
    logits and a flag down; no weights. Logged are `cache/hit_rate` (samples with a teacher), `cache/age` (of
    the teachers' logits, in rounds), `cache/acc_hits` (accuracy of the teachers by the sent labels), and
    `bytes/saved` (against sending hashes and labels in every round). A sample without a teacher learns from
    its label alone, so misses have no accuracy. Labels leave the clients, and a hash is a view of a sample:
    choose an encoder that keeps little of it.

    Args:
        encoder: Maps inputs to hashes `(B, ...)`, the same module for all clients; it is not trained.
        related: R, the number of samples that teach one.
        alpha: Weight of the distillation. At 0 clients train alone.
        temperature: T.
        layer: Layer that gives the logits; `""` is the module's output.
        label_key: Key or index of the labels in a batch.
        input_key: Entry of a batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range, a layer that does not exist, or clients with different classes.

    Example:
        >>> FedCache(nn.Flatten(), related=16).alpha
        1.5
    """

    aggregates_weights = False
    supports_multiple_models = True

    def __init__(
        self,
        encoder: nn.Module,
        related: int = 16,
        alpha: float = 1.5,
        temperature: float = 3.0,
        layer: str = "",
        label_key: str | int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__("uniform")
        expect(related=related, ge=1)
        expect(alpha=alpha, ge=0)
        expect(temperature=temperature, gt=0)
        self.encoder, self.related, self.alpha, self.temperature = encoder, related, alpha, temperature
        self.layer, self.input_key, self.label_key = layer, input_key, label_key
        self._start = copy.deepcopy(encoder.state_dict())
        self._relation: tuple[tuple[str, ...], Tensor] | None = None

    def setup(self, x: Tensors) -> None:
        """Starts with an empty cache and the untouched encoder."""
        self.state, self._relation = {"encoder": moved(self._start, "cpu")}, None

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the distillation to the module's loss."""
        find_layer(module, self.layer, "layer")
        add_loss(module, self._extra, [self.layer], "train/distillation_loss")

    def begin(self, context: ClientContext) -> None:
        """Takes the teachers' logits of this client's samples."""
        known = {name: t for name, t in context.knowledge.items() if not name.startswith(ENCODER)}
        context.scratch.update(knowledge=known, places=places(context))

    def _extra(self, scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor | None:
        if not scratch["knowledge"] or not self.alpha:
            return None
        rows = next(scratch["places"])
        known = scratch["knowledge"]["known"][rows] > 0
        if not known.any():
            return None
        logits, targets = taps.output(self.layer)[known], scratch["knowledge"]["logits"][rows][known]
        share = known.float().mean()  # samples without a teacher count as zero
        return self.alpha * share * kd_loss(logits, targets, self.temperature)

    def finish(self, context: ClientContext) -> Lists:
        """Replies the logits of all training samples, in order; the first time hashes and labels, too."""
        loop, labels = context.loop, []

        def inputs(module: nn.Module) -> Iterator[Call]:
            for given in context.client.ordered_batches("train"):
                batch = loop.on_device(given)
                labels.append(labels_of(batch, self.label_key))
                yield call_of(module, batch, self.input_key, self.label_key)

        (logits,) = outputs(context.module, inputs(context.module), [self.layer], loop.trainer)
        context.reply_tensors = {"logits": logits}
        if HASHED not in context.memory:
            context.reply_tensors["labels"] = torch.cat(labels)
            encoder = loop.trainer.precision_plugin.convert_module(self.encoder).to(context.module.device)
            sent = {n.removeprefix(ENCODER): t for n, t in context.knowledge.items() if n.startswith(ENCODER)}
            encoder.load_state_dict(sent)
            (codes,) = outputs(encoder, inputs(encoder), [""], loop.trainer)
            context.reply_tensors["codes"] = codes.flatten(1)
            context.memory[HASHED] = torch.tensor(1)
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains the clients with the cache, and stores what they reply."""
        ages = {name: age + 1 for name, age in self.state.get("ages", {}).items()}
        knowledge, uses = self._fetch(server.cohort, ages)
        encoder = {ENCODER + name: tensor for name, tensor in self.state["encoder"].items()}
        for i, sent in knowledge.items():
            if str(i) not in self.state.get("codes", {}):  # a client without hashes needs the encoder
                sent |= encoder
        told = server.gather(server.train(knowledge=knowledge))
        cache = {name: dict(self.state.get(name, {})) for name in ("logits", "codes", "labels")}
        for t in told:
            for name, tensor in t.knowledge.items():
                cache[name][str(t.client)] = tensor
            ages[str(t.client)] = torch.tensor(0)
            if server.owns(t.client):
                server.used_cache(t.client, uses[t.client])
        shapes = {tuple(z.shape[1:]): client for client, z in cache["logits"].items()}
        if len(shapes) > 1:
            (one, a), (other, b), *_ = shapes.items()
            raise ValueError(
                f"layer={self.layer!r} gives {one} at client {a}, {other} at client {b}: all clients must have the same classes "
                "in the same order."
            )
        self.state |= {**cache, "ages": ages}
        return {}

    def _fetch(
        self, cohort: Mapping[int, ClientInfo], ages: Tensors
    ) -> tuple[dict[int, Tensors], dict[int, CacheUse]]:
        """Returns what each client is sent, and how the cache was used for it."""
        codes = self.state.get("codes", {})
        names = tuple(sorted(codes, key=int))
        empty = {i: CacheUse(client.num_samples) for i, client in cohort.items()}
        if not names:
            return {i: {} for i in cohort}, empty
        if self._relation is None or self._relation[0] != names:
            every = [torch.cat([self.state[kind][n].cpu() for n in names]) for kind in ("codes", "labels")]
            self._relation = names, nearest_of_class(every[0], every[1], self.related)
        logits = torch.cat([self.state["logits"][n].cpu() for n in names])
        # a checkpoint of an earlier version has no ages
        old = torch.cat([ages.get(n, torch.tensor(1)).cpu().float().expand(len(codes[n]), 1) for n in names])
        means, known = mean_of_rows(torch.cat([logits, old], 1), self._relation[1])
        found, uses = {}, {}
        for name, mean, has in zip(
            names, *(t.split([len(codes[n]) for n in names]) for t in (means, known)), strict=True
        ):
            right = mean[has, :-1].argmax(1) == self.state["labels"][name].cpu()[has]
            again = (
                codes[name].nbytes + self.state["labels"][name].nbytes
            )  # bytes of hashes and labels, as if they were sent in every round
            found[int(name)] = {"logits": mean[:, :-1].contiguous(), "known": has.to(torch.uint8)}
            uses[int(name)] = CacheUse(
                len(has), len(right), float(mean[has, -1].sum()), again, len(right), int(right.sum())
            )
        return {i: found.get(i, {}) for i in cohort}, {i: uses.get(i, empty[i]) for i in cohort}
