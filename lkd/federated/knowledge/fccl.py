"""FCCL: clients correlate their logits on public data, and keep what they knew on their own."""

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.batches import Keys, call_of
from lkd.checks import expect
from lkd.copies import copied
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_inputs import run
from lkd.federated.knowledge.common.own_checkpoints import state
from lkd.federated.knowledge.common.public_logits import PublicExchange
from lkd.federated.protocol.tensors import Lists, moved
from lkd.losses.divergence import kl_divergence
from lkd.taps import Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

MODELS = "former_models"
"""Attribute of the training module that holds the client's former models."""
FORMER = ("previous", "pretrained")
"""A client's former models: after its last round, and after its training alone."""


def cross_correlation_loss(student: Tensor, teacher: Tensor, lam: float = 0.0051) -> Tensor:
    """Returns `sum_u (1 - M_uu)^2 + lam sum_u sum_{v != u} (1 + M_uv)^2` of the logits' correlation M.

    M_uv is the correlation, over the batch, of the student's logit of class u and the teacher's of class v.
    The same class should agree, different classes should be opposed (-1 and not Barlow Twins' 0, as in the
    authors' code; there the correlation is smaller by the factor (B - 1) / B). A class whose logit is the
    same for the whole batch, and a batch of one sample, correlate with nothing and have no gradient. The loss
    is summed over classes and does not depend on B.

    Args:
        student: `(B, C)`.
        teacher: `(B, C)`; no gradient flows into it.
        lam: Weight of the pairs of different classes.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        >>> same, opposed = (cross_correlation_loss(sign * logits, logits, lam=1.0) for sign in (1, -1))
        >>> round(float(same), 4), round(float(opposed), 4)
        (0.0, 16.0)
    """
    matrix = _normalized(student).T @ _normalized(teacher.detach())
    same = matrix.diagonal()
    off = (1 + matrix).square().sum() - (1 + same).square().sum()
    return (1 - same).square().sum() + lam * off


def _normalized(logits: Tensor) -> Tensor:
    """Centers the columns, and scales them to length 1."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    away = logits - logits.mean(0)
    return away * away.square().sum(0).clamp_min(1e-12).rsqrt()


class FCCL(PublicExchange):
    """Exchange by correlation on public data, with distillation from a client's former models on its own.

    Huang, Ye and Du, "Learn from Others and Be Yourself in Heterogeneous Federated Learning", CVPR 2022. In a
    round, clients send logits of public samples and learn their mean by `cross_correlation_loss`. Then each
    trains on its own data with `L + inter KL(previous || model) + intra KL(pretrained || model)`, mean over
    the batch: the model after its last round knows other domains, the model after training alone knows its
    own. Loss and weights are as in the authors' code; the numbers of the equations could not be checked.
    Logits are exchanged once per round, as in the paper; in the authors' code they are computed anew at every
    step, in train mode.

    The first `warmup` rounds are the training alone. With 0 of them, the pretrained weights are those that
    clients start from; a client that is first drawn later has trained alone after its first round. Both
    former models are used in eval mode. A client keeps two models. Travels: see `PublicExchange`.

    Args:
        lam: Weight of the pairs of different classes in the correlation.
        inter: Weight of the divergence from the previous model.
        intra: Weight of the divergence from the pretrained model.
        samples: Public samples in a round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step, at least 2; correlations are over these.
        layer: Layer that gives the logits; `""` is the module's output.
        warmup: Rounds of private training before the first exchange.
        input_key: Entry of a batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range.

    Example:
        >>> FCCL(inter=0.0, intra=0.0).lam
        0.0051
    """

    def __init__(
        self,
        lam: float = 0.0051,
        inter: float = 1.0,
        intra: float = 1.0,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 256,
        layer: str = "",
        warmup: int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, warmup, input_key)
        expect(lam=lam, inter=inter, intra=intra, ge=0)
        expect(batch_size=batch_size, ge=2, why="correlations are over a batch")
        self.lam, self.weights_of = lam, {"previous": inter, "pretrained": intra}

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the divergences from the client's former models."""
        former = {name: copied(module, "client").eval() for name in FORMER}
        vars(module)[MODELS] = former  # not as layers, or they would train and travel with the module
        add_loss(module, self._extra, [self.layer], "train/former_loss")

    def agree(self, server: "ServerRound", logits: Tensor, clients: list[int]) -> Tensor:
        """Averages the logits over the clients."""
        return logits.mean(0)

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the loss from the correlation with the mean."""
        return cross_correlation_loss(logits, targets, self.lam)

    @torch.no_grad()
    def begin(self, context: ClientContext) -> None:
        """Learns from other clients, and loads the client's former models."""
        if not self.warmup and not context.memory:
            self._remember(context, FORMER)
        with torch.enable_grad():
            super().begin(context)
        if context.round < self.warmup or not context.memory:
            return
        former: dict[str, LightningModule] = vars(context.module)[MODELS]
        for which, model in former.items():
            for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
                tensor.copy_(context.memory[f"{which}/{name}"])
        context.scratch["former"] = {which: m for which, m in former.items() if self.weights_of[which]}

    def finish(self, context: ClientContext) -> Lists:
        """Keeps the client's model for its next round."""
        alone = context.round < self.warmup or not context.memory
        self._remember(context, FORMER if alone else FORMER[:1])
        return {}

    def _remember(self, context: ClientContext, which: tuple[str, ...]) -> None:
        now = moved(state(context), "cpu")
        context.memory |= {f"{one}/{name}": tensor for one in which for name, tensor in now.items()}

    def _extra(self, scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor | None:
        if not (former := scratch.get("former")):
            return None
        log_p = taps.output(self.layer).float().log_softmax(-1)
        total = log_p.new_zeros(())
        for which, model in former.items():
            with torch.no_grad(), Taps(model, [self.layer], "layer") as asked:
                run(model, call_of(model, batch, self.input_key))
            log_q = asked.output(self.layer).float().log_softmax(-1)
            total = total + self.weights_of[which] * kl_divergence(log_p, log_q).mean()
        return total
