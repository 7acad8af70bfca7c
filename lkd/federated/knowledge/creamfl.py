"""CreamFL: clients of different modalities exchange and contrast representations of public samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.algorithms.moon import model_contrast
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.compatibility import check_sizes
from lkd.federated.knowledge.common.consensus import stacked
from lkd.federated.knowledge.common.distill_public import Compare, distill
from lkd.federated.knowledge.common.forward import draw
from lkd.federated.knowledge.common.modality_layers import (
    check_modalities,
    check_pattern,
    modal_layers,
    of_each,
)
from lkd.federated.knowledge.common.public_logits import at_server
from lkd.federated.knowledge.common.representations import (
    complete,
    cross_modal_scores,
    info_nce,
    joined,
    pair_loss,
    represent,
)
from lkd.federated.protocol.tensors import Lists, Tensors
from lkd.losses.unit import unit

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class CreamFL(Algorithm):
    """Contrastive exchange of representations of public samples between clients and server.

    Yu, Liu, Wang, Xu and Liu, "Multimodal Federated Learning via Contrastive Representation Ensemble", ICLR
    2023, arXiv:2302.08888. Representations are unit vectors z in R^D of public samples, one in each modality
    that a model has. The first architecture, `Federation(model=...)`, is the server's model, and needs all
    modalities. Clients may have any modalities; their architectures are in `other_models`. In a round:

    1. The server learns to tell which modalities belong to the same public sample: `pairs` times `pair_loss`.
    2. It sends its representations G^m of the round's public samples, in all modalities m.
    3. Clients train on their own data, and then on the public samples with the mean over their modalities a
       of `inter mean_{b != a} -log softmax_j(z_i^a . G_j^b / T)_i` (all of the round's samples are negatives)
       plus `intra model_contrast`: towards G_i^a, away from z_i^a of the client as it was before this round
       (MOON).
    4. Clients reply their z. The server joins those of each modality a: sample i of client k has the weight
       `softmax_k(mean_{b != a} log softmax_j(z_i^k . G_j^b / T')_i)`. A client that finds the sample in other
       modalities counts most.
    5. The server's model learns the sums: `kd` times their mean squared difference, over D, added over the
       modalities.

    Steps 2 to 5, both temperatures and `kd`, `inter` and `intra` are those of the authors' code; the numbers
    of the paper's equations could not be checked. The authors' code has two modalities. A client that has
    both adds its two inter-modal losses instead of averaging them, contrasts follow each local epoch, and
    step 1 is the server's own task, image-text retrieval with another loss. Here `pair_loss` replaces that
    task, because it needs no labels; its weight is our choice. A modality that no client of a round has is
    not distilled. A sample that lacks a modality by dropout takes no part in the pairs of that modality, and
    adds a constant to the other losses. Labels do not reach the server: encoders and projections of its model
    learn, its heads stay as they are.

    Travels, of N public samples: N x D numbers for each modality that the client has up, N x D for each of
    the server's down (none with `inter` and `intra` at 0); no weights. Which samples follows from the seed.

    Args:
        inter: Weight of the contrast between modalities.
        intra: Weight of the contrast with the client's former model. With both at 0 clients train alone.
        kd: Weight of the distillation at the server; 0 for none.
        pairs: Weight of the server's own contrast; 0 for none.
        temperature: T of all losses.
        score_temperature: T' of the ensemble's weights.
        samples: Public samples in a round, drawn anew each round, at most as many as there are; None for all
            of them.
        epochs: Passes over them, of clients and server.
        batch_size: Samples in a step.
        layer: Layers that give the representations `(B, D)`, with `{modality}` as the placeholder of the
            modality.
        modalities: Modalities that take part. Default: all that a module's `network.modalities` names.

    Raises:
        ValueError: For numbers out of range, and, before any training, if there are no public data, a public
            sample lacks a modality, representations have different sizes, the server's model lacks a client's
            modality, or a module does not say which modalities it has.

    Example:
        >>> CreamFL(samples=1000).temperature
        0.5
    """

    aggregates_weights = False
    supports_multiple_models = True
    needs_public_data = True

    def __init__(
        self,
        inter: float = 0.5,
        intra: float = 0.5,
        kd: float = 0.3,
        pairs: float = 1.0,
        temperature: float = 0.5,
        score_temperature: float = 1.0,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 256,
        layer: str = "network.projections.{modality}",
        modalities: Sequence[str] | None = None,
    ) -> None:
        super().__init__("uniform")
        expect(inter=inter, intra=intra, kd=kd, pairs=pairs, ge=0)
        expect(temperature=temperature, score_temperature=score_temperature, gt=0)
        expect(samples=samples, ge=1, none="all of them")
        expect(epochs=epochs, batch_size=batch_size, ge=1)
        check_pattern(layer)
        self.inter, self.intra, self.kd, self.pairs = inter, intra, kd, pairs
        self.temperature, self.score_temperature = temperature, score_temperature
        self.samples, self.epochs, self.batch_size = samples, epochs, batch_size
        self.layer, self.modalities = layer, None if modalities is None else list(modalities)
        self._checked = False

    def setup(self, x: Tensors) -> None:
        """Makes the next round check the clients again."""
        self._checked = False

    def _layers(self, module: LightningModule) -> dict[str, str]:
        return modal_layers(module, self.layer, self.modalities)

    def _rows(self, seed: int, round: int, size: int) -> np.ndarray:
        """Draws the numbers of the round's public samples, none of them twice."""
        return draw(seed, round, size, None if self.samples is None else min(self.samples, size))

    def _represent(self, context: ClientContext) -> dict[str, Tensor]:
        return represent(
            context.module,
            self._layers(context.module),
            context.public,
            self._rows(context.config["seed"], context.round, len(context.public)),
            self.batch_size,
            context.loop,
        )

    def begin(self, context: ClientContext) -> None:
        """Computes the client's representations of the public samples before it trains."""
        context.scratch["former"] = self._represent(context) if self.intra else {}

    def finish(self, context: ClientContext) -> Lists:
        """Contrasts after private training, and replies the client's representations."""
        bank, layers = of_each(context.knowledge, "global"), self._layers(context.module)
        if layers and bank and (self.intra or len(bank) > 1):  # otherwise the loss would be constant
            rows = self._rows(context.config["seed"], context.round, len(context.public))
            context.loop.local_optimizer.begin_client()  # no momentum from private training
            with torch.enable_grad():
                distill(
                    context.module,
                    context.optimizer,
                    context.public,
                    rows,
                    torch.arange(len(rows)),
                    self._contrast(list(layers), bank, context.scratch["former"]),
                    context.loop,
                    context.seed,
                    self.epochs,
                    self.batch_size,
                    list(layers.values()),
                    context.loop.clip,
                )
        context.reply_tensors |= {f"own/{m}": z for m, z in self._represent(context).items()}
        return {}

    def _contrast(self, modalities: list[str], bank: Tensors, former: Tensors) -> Compare:
        """Builds the client's loss on public samples, by their places in the round."""

        def loss(given: list[Tensor], places: Tensor) -> Tensor:
            each = []
            for m, features in zip(modalities, given, strict=True):
                z, others = unit(features.flatten(1)), [g for b, g in bank.items() if b != m]
                total = z.new_zeros(())
                if self.inter and others:
                    contrasts = [info_nce(z, g, places, self.temperature) for g in others]
                    total = total + self.inter * torch.stack(contrasts).mean()
                if self.intra:
                    near, far = bank[m][places], former[m][places]
                    total = total + self.intra * model_contrast(z, near, far, self.temperature)
                each.append(total)
            return torch.stack(each).mean()

        return loss

    def round(self, server: "ServerRound") -> Tensors:
        """Trains the server on pairs, the clients on their data, and the server on their ensemble."""
        public, model = server.public, server.models[0]
        self._check(server)
        layers, rows = self._layers(model), self._rows(server.seed, server.index, len(public))
        if self.pairs and len(layers) > 1:
            for _ in complete(model, layers, public, rows, self.batch_size, server.runtime):
                pass  # raises where modalities are missing
            self._learn(server, rows, self._pairs, part=0)
        bank = represent(model, layers, public, rows, self.batch_size, server.runtime)
        bank = {m: g.cpu() for m, g in bank.items()}
        sent = {f"global/{m}": g for m, g in bank.items()} if self.inter or self.intra else {}
        told = server.gather(server.train(knowledge=sent, config={"seed": server.seed}))
        targets = {}
        for m in layers:
            if having := [t for t in told if f"own/{m}" in t.knowledge]:
                targets[m] = self.ensemble(m, stacked(having, f"own/{m}"), bank).float()
        if self.kd and targets:
            self._learn(server, rows, self._digest(list(layers), targets, model.device), part=1)
        return {}

    def ensemble(self, modality: str, told: Tensor, bank: dict[str, Tensor]) -> Tensor:
        """Joins the clients' representations, weighted by their scores against the other modalities.

        Args:
            modality: Name of the modality.
            told: Representations of the clients, `(K, N, D)`, float64.
            bank: The server's representations `(N, D)` by modality.

        Returns:
            Sums `(N, D)`.
        """
        others = [g.to(told) for b, g in bank.items() if b != modality]
        scores = [cross_modal_scores(own, others, self.score_temperature) for own in told]
        return joined(told, torch.stack(scores))

    def _learn(self, server: "ServerRound", rows: np.ndarray, loss: Compare, part: int) -> None:
        layers = list(self._layers(server.models[0]).values())
        places = torch.arange(len(rows))
        at_server(server, rows, places, loss, self.epochs, self.batch_size, layers, part)

    def _pairs(self, given: list[Tensor], places: Tensor) -> Tensor:
        return self.pairs * pair_loss([unit(z.flatten(1)) for z in given], self.temperature)

    def _digest(self, modalities: list[str], targets: dict[str, Tensor], device: torch.device) -> Compare:
        """Builds the server's loss on the sums, by the samples' places in the round."""
        moved = {m: target.to(device) for m, target in targets.items()}

        def loss(given: list[Tensor], places: Tensor) -> Tensor:
            found = {m: unit(z.flatten(1)) for m, z in zip(modalities, given, strict=True)}
            away = [F.mse_loss(found[m], target[places]) for m, target in moved.items()]
            return self.kd * torch.stack(away).sum()

        return loss

    def _check(self, server: "ServerRound") -> None:
        """Refuses, before any training, representations that cannot be compared."""
        if self._checked:
            return
        check_modalities(self.modalities, server.models)
        whole = self._layers(server.models[0])
        for kind, model in enumerate(server.models):
            if missing := [m for m in self._layers(model) if m not in whole]:
                raise ValueError(
                    f"the server's model is the federation's `model`, which has no encoder for {missing[0]!r}, as "
                    f"other_models[{kind - 1}] has: let `model` be a module with all modalities (`client_models` says who trains which)."
                )
        check_sizes(
            server,
            self.layer,
            "embedding sizes",
            layers=lambda model: list(self._layers(model).values()),
        )
        self._checked = True
