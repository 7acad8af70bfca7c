"""FedMD: clients of any architecture learn the mean of their class scores on public data."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.algorithms.base import stackable
from lkd.federated.client.context import ClientContext, ClientView
from lkd.federated.client.single_samples import watching
from lkd.federated.knowledge.common.consensus import Of, consensus
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.public_logits import PublicExchange
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.robust import Rule
from lkd.shown import shown

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

PRETRAINED = "pretrained"
"""Marks, in a client's memory, that it has learned the labels of the public data."""


class FedMD(PublicExchange):
    """Exchange of scores of public samples, whose mean clients digest before they train on their own data.

    Li and Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", 2019, arXiv:1910.03581,
    Algorithm 1: transfer learning (train on the labeled public data, here `pretrain`, and then on private
    data, here `warmup`); then, in every round, communicate, aggregate `f(x) = 1/m sum_k f_k(x)`, distribute,
    digest (train towards the consensus), revisit (train on private data). The average of probabilities
    (`of="probabilities"`), learned by the KL divergence, is not steered by a client whose logits are large.

    As in the authors' code, each party pretrains by its own loss before it sees private data; raw logits are
    digested by the mean absolute error, one pass, batch 256, 5000 samples; heads cover public and private
    classes. There, both stages of transfer learning stop early, by accuracy on test data, after at most 20
    epochs (batch 128) and 25 (batch 32); here their lengths are given. There, a round's samples keep the
    proportions of the public labels, and Adam's state is kept; here they are drawn regardless of labels, and
    the optimizer begins anew for pretraining, digestion and training.

    Pretraining works as a client's training on its own data (hooks, accumulation, clipping), except that its
    logs are dropped. A client that is first drawn in a later round pretrains then. Travels: see
    `PublicExchange`; pretraining adds only the number of the round.

    Args:
        samples: Public samples in a round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        of: What is averaged and learned: `"logits"` as published, or `"probabilities"`.
        temperature: Temperature of the softmax, for probabilities.
        rule: A robust rule in place of the mean, such as `GeometricMedian()`.
        layer: Layer that gives the logits; `""` is the module's output.
        warmup: Rounds of private training before the first exchange.
        pretrain: Epochs on the labeled public data, in batches of `batch_size`, before a client's first
            round. At 0 public labels are not used. They must be classes of the clients' heads.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range; before any training, for `pretrain` on public data without
            labels.
        TypeError: For a `rule` that is not a `Rule`.

    Example:
        >>> import torch
        >>> FedMD().compare(torch.zeros(1, 2), torch.tensor([[1.0, -3.0]]))
        tensor(2.)
    """

    stacks = True

    def __init__(
        self,
        samples: int | None = 5000,
        epochs: int = 1,
        batch_size: int = 256,
        of: Of = "logits",
        temperature: float = 1.0,
        rule: Rule | None = None,
        layer: str = "",
        warmup: int = 1,
        pretrain: int = 0,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, warmup, input_key)
        expect(of=of, among=("logits", "probabilities"))
        expect(temperature=temperature, gt=0)
        if of == "logits" and temperature != 1:
            raise ValueError(
                f"temperature={temperature} softens probabilities: give of='probabilities', too."
            )
        if rule is not None and not isinstance(rule, Rule):
            raise TypeError(f"rule={shown(rule)} must be an object of Rule, such as GeometricMedian().")
        expect(pretrain=pretrain, ge=0)
        self.of, self.temperature, self.rule, self.pretrain = of, temperature, rule, pretrain

    def round(self, server: "ServerRound") -> Tensors:
        """Refuses a cohort that is too small for the rule, pretrains new clients, then runs the exchange."""
        if self.rule is not None and len(server.cohort) < self.rule.min_clients:
            raise ValueError(
                f"rule={type(self.rule).__name__} as it is set needs at least {self.rule.min_clients} clients, but "
                f"{len(server.cohort)} take part in round {server.index}."
            )
        if self.pretrain:
            self._check(server)
            for _ in server.call("learn_labels"):
                pass
        return super().round(server)

    def _check(self, server: "ServerRound") -> None:
        """Refuses also public data without labels, if there is pretraining."""
        if self.pretrain and not self._checked:
            try:
                next(iter(server.public.labeled([0], 1)))
            except ValueError as error:
                raise ValueError(
                    f"pretrain={self.pretrain} needs public data with labels, and 0 needs none: {error}"
                ) from error
        super()._check(server)

    @stackable
    def learn_labels(self, context: ClientContext) -> None:
        """Trains a client on the labeled public data, once, as it trains on its own data."""
        if PRETRAINED in context.memory:
            return
        loop, per_epoch = context.loop, math.ceil(len(context.public) / self.batch_size)
        context.planned = self.pretrain * math.ceil(per_epoch / loop.accumulate)
        loop.local_optimizer.begin_client()
        told = f"batch_size={self.batch_size} of {len(context.public)} public samples leaves a batch of one"
        with watching(context.module, told):
            context.train([self._labeled(one, per_epoch) for one in context.members])
        for one in context.members:
            one.memory[PRETRAINED] = torch.tensor(1)
        context.save_state = True

    def _labeled(self, client: ClientView, per_epoch: int) -> Iterator[tuple[bool, Any]]:
        """Yields public batches with labels, shuffled in each epoch, each with whether it ends its epoch."""
        generator = np.random.default_rng(client.seed)
        for _ in range(self.pretrain):
            order = generator.permutation(len(client.public))
            for place, batch in enumerate(client.public.labeled(order, self.batch_size), 1):
                yield place == per_epoch, batch

    def agree(self, server: "ServerRound", logits: Tensor, clients: list[int]) -> Tensor:
        """Averages the clients' logits or probabilities."""
        return consensus(logits, self.of, self.temperature, rule=self.rule)

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the mean absolute error of logits, or `T^2` times the cross entropy with probabilities."""
        if self.of == "logits":
            return F.l1_loss(logits, targets)
        return soft_cross_entropy(logits, targets, self.temperature)
