"""SCARLET: DS-FL with soft labels that server and clients keep, and that are sent only once."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.client.context import ClientView
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.consensus import stacked
from lkd.federated.knowledge.common.label_cache import LabelCache
from lkd.federated.knowledge.dsfl import DSFL, Aggregation
from lkd.federated.protocol.cache_use import CacheUse
from lkd.federated.protocol.messages import Config, Message
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

LABELS = "labels"
"""Entry of a client's memory: the soft labels that it was sent, of all public samples."""


class SCARLET(DSFL):
    """DS-FL with a cache of soft labels at server and clients; only missing and expired labels travel.

    Azuma, Nishio, Kitagawa, Nakano and Tanimura, "Soft-Label Caching and Sharpening for
    Communication-Efficient Federated Distillation", IEEE Transactions on Mobile Computing 2026,
    arXiv:2504.19602. In a round, clients predict only those of its public samples whose label is missing in
    the server's cache, or older there than `duration` rounds. They learn all samples of the round, the others
    from the cache. The server knows what each client has: with the new labels, a client that was away is sent
    those of the round's samples that it missed (the paper's catch-up package), so all learn the same targets.
    A client that has left still counts in the labels that it helped to make, as long as they are valid.

    Abstract and the authors' code were read; the paper's text could not be. In the code a signal (cached,
    newly cached, expired) goes with each sample; an expired label is deleted, and its successor is learned
    but not kept, so it is asked for a second time. Here the successor is kept at once, so a flag is enough:
    sent or not. beta = 2 and 50 rounds are those of the authors' code.

    With `duration=0` this is `DSFL` with the same arguments, bit for bit and byte for byte. Travels: what
    DS-FL sends, but only of the samples in question, and a byte per sample of the round in messages that do
    not cover all of them. Logged are `cache/hit_rate`, `cache/age` in rounds, and `bytes/saved` against
    DS-FL. A client keeps P x C numbers for P public samples.

    Args:
        duration: Rounds for which a label is valid after the one in which it was made.
        aggregation: How predictions are joined, see `DSFL`.
        temperature: T of the entropy reduction.
        beta: Exponent of the enhanced entropy reduction.
        samples: Public samples in a round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        server_epochs: Passes of the server's model; 0 leaves it as it is. Default: as `epochs`.
        layer: Layer that gives the logits; `""` is the module's output.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.
        measure: Whether the true labels of the public data are read, once, to measure how often labels are
            right: those from the cache as `cache/acc_hits`, new ones as `cache/acc_misses`. Nothing learns
            from them.
        label_key: Key or index of the labels in a batch.

    Raises:
        ValueError: For numbers out of range or another aggregation; before any training, without public data,
            for public data other than those of a resumed run, or for `measure` on public data without labels.

    Example:
        >>> SCARLET(duration=5).beta
        2.0
    """

    stacks = True

    def __init__(
        self,
        duration: int = 50,
        aggregation: Aggregation = "enhanced",
        temperature: float = 0.1,
        beta: float = 2.0,
        samples: int | None = 1000,
        epochs: int = 5,
        batch_size: int = 100,
        server_epochs: int | None = None,
        layer: str = "",
        input_key: Keys | None = None,
        measure: bool = False,
        label_key: str | int = 1,
    ) -> None:
        super().__init__(
            aggregation, temperature, beta, samples, epochs, batch_size, server_epochs, layer, input_key
        )
        expect(duration=duration, ge=0, why="it is in rounds")
        self.duration, self.measure, self.label_key = duration, measure, label_key
        self._truth: Tensor | None = None
        self._use, self._lessons = CacheUse(), dict[int, Tensors]()  # of the present round

    def setup(self, x: Tensors) -> None:
        """Starts with empty caches."""
        super().setup(x)
        self.state, self._truth = {"cache": {}, "held": {}}, None

    def _check(self, server: "ServerRound") -> None:
        """Refuses also other public data than the cache's, and, for `measure`, data without labels."""
        if not self._checked:
            self._cache(server).belong(server.public)
        super()._check(server)
        if self.measure and self._truth is None:
            try:
                batches = server.public.labeled(np.arange(len(server.public)), self.batch_size)
                self._truth = torch.cat([labels_of(batch, self.label_key).cpu() for batch in batches])
            except ValueError as error:
                raise ValueError(
                    f"measure=True needs public data with labels, and False needs none: {error}"
                ) from error

    def targets(self, server: "ServerRound", config: Config) -> Tensor:
        """Takes the labels of the round's samples from the cache, and asks clients for the others."""
        cache, rows = self._cache(server), self._rows_of(server)
        cache.next_round()
        good, ages = cache.good(rows), cache.ages[rows]
        asked = rows[~good]
        question = {} if not good.any() else {"asked": (~good).to(torch.uint8)}
        if len(asked):
            told = server.gather(server.call("predict", question, config=config))
            cache.put(asked, self.agree(server, stacked(told, "logits"), [t.client for t in told]).float())
        targets = cache.labels(rows)
        self._use = CacheUse(len(rows), int(good.sum()), float(ages[good].sum()))
        plain = Message({}, {"round": 0.0, **config})
        sent = replace(plain, knowledge=question).nbytes if len(asked) else 0
        self._use.bytes_saved = plain.nbytes - sent + int(good.sum()) * targets[0].nbytes
        if self._truth is not None:
            right = targets.argmax(1) == self._truth[rows]
            self._use.hits_judged, self._use.hits_right = int(good.sum()), int(right[good].sum())
            self._use.misses_judged, self._use.misses_right = int((~good).sum()), int(right[~good].sum())
        return targets

    def lessons(self, server: "ServerRound", targets: Tensor) -> dict[int, Tensors]:
        """Selects the labels that each client lacks; clients that lack the same share the tensors."""
        cache, rows, made = self._cache(server), self._rows_of(server), dict[bytes, Tensors]()
        self._lessons = {}
        for client in filter(server.owns, server.cohort):
            lacks = cache.lacks(client, rows)
            key = lacks.numpy().tobytes()
            if key not in made:
                some = {"targets": targets[lacks], "sent": lacks.to(torch.uint8)}
                made[key] = {"targets": targets} if lacks.all() else some
            self._lessons[client] = made[key]
        return self._lessons

    def taught(self, server: "ServerRound", clients: list[int]) -> None:
        """Records on every rank which clients have the labels now, and how the cache was used."""
        cache, rows = self._cache(server), self._rows_of(server)
        for client in clients:
            whole = len(rows) * cache.labels(rows[:1]).nbytes
            saved = self._use.bytes_saved + whole - Message(knowledge=self._lessons[client]).nbytes
            server.used_cache(client, replace(self._use, bytes_saved=saved))
        if self.duration:
            everyone = (client for part in server.gather_objects(clients) for client in part)
            for client in sorted(everyone):
                cache.hand(client, rows)

    def asked(self, client: ClientView) -> np.ndarray:
        """Returns the round's samples of which the server has no valid label."""
        rows = super().asked(client)
        return rows[client.knowledge["asked"].cpu().numpy() > 0] if "asked" in client.knowledge else rows

    def told(self, client: ClientView) -> Tensor:
        """Joins the labels that the client was sent with those that it has; keeps all of them."""
        new = super().told(client)
        if not self.duration:
            return new
        rows = torch.as_tensor(self._drawn(client), device=new.device)
        before, sent = client.memory.get(LABELS), client.knowledge.get("sent")
        kept = new.new_zeros(len(client.public), *new.shape[1:]) if before is None else before.clone()
        kept[rows if sent is None else rows[sent > 0]] = new
        client.memory[LABELS] = kept
        return kept[rows]

    def _cache(self, server: "ServerRound") -> LabelCache:
        return LabelCache(self.state, len(server.public), self.duration)

    def _rows_of(self, server: "ServerRound") -> Tensor:
        return torch.as_tensor(self.rows(server.seed, server.index, len(server.public)))
