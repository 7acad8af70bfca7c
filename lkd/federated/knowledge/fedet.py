"""Fed-ET: the clients' small models teach the server's large one, which gives its representation back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.copies import copied
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.client.minimize import minimize
from lkd.federated.knowledge.common.batch_inputs import public_calls, run
from lkd.federated.knowledge.common.client_ensemble import ClientEnsemble
from lkd.federated.knowledge.common.compatibility import check_sizes
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.forward import draw
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Tensors
from lkd.taps import Call, Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


def variance_weighted(logits: Tensor, members: Tensor | None = None) -> Tensor:
    """Averages logits with weights `a_k = var(z_k) / sum_j var(z_j)`, sample by sample.

    The variance is over the classes: a confident model has one logit far from the others.

    Args:
        logits: z, `(K, N, C)`.
        members: Models that count for each sample, `(K, N)` bool. Default: all. The mean is 0 where no model
            counts, or all variances are 0.

    Returns:
        `(N, C)`.

    Example:
        >>> import torch
        >>> variance_weighted(torch.tensor([[[3.0, -3.0]], [[-1.0, 1.0]]]))
        tensor([[ 2.6000, -2.6000]])
    """
    variance = logits.var(-1, unbiased=False)
    if members is not None:
        variance = variance * members
    weights = variance / variance.sum(0).clamp_min(torch.finfo(variance.dtype).tiny)
    return (weights[..., None] * logits).sum(0)


def consensus_and_diversity(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the label that the models agree on, and the joint opinion of the models that disagree.

    Args:
        logits: `(K, N, C)`.

    Returns:
        One-hot labels `(N, C)`, of the largest variance-weighted logit; and probabilities `(N, C)`, the
        softmax of the variance-weighted logits of the models with another largest logit, or zeros where there
        are none.

    Example:
        >>> import torch
        >>> labels, others = consensus_and_diversity(torch.tensor([[[3.0, -3.0]], [[-1.0, 1.0]]]))
        >>> labels.tolist(), others
        ([[1.0, 0.0]], tensor([[0.1192, 0.8808]]))
    """
    label = variance_weighted(logits).argmax(-1)
    apart = logits.argmax(-1) != label
    others = variance_weighted(logits, apart).softmax(-1) * apart.any(0)[:, None]
    return F.one_hot(label, logits.shape[-1]).to(logits), others


def ensemble_transfer_loss(logits: Tensor, labels: Tensor, others: Tensor, lam: float = 0.05) -> Tensor:
    """Computes `CE(label, p) + lam KL(others || p)`, mean over the batch.

    The second term counts only where some model disagrees.

    Args:
        logits: Logits of the server's model, `(B, C)`.
        labels: One-hot, `(B, C)`.
        others: Probabilities `(B, C)`, or zeros.
        lam: Weight of the diversity.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.8, 0.2]])
        >>> ensemble_transfer_loss(p.log(), torch.tensor([[1.0, 0.0]]), p)
        tensor(0.2231)
    """
    entropy = torch.special.entr(others.to(logits)).sum(1).mean()
    return soft_cross_entropy(logits, labels) + lam * (soft_cross_entropy(logits, others) - entropy)


class FedET(Algorithm):
    """Ensemble transfer: clients train small models, and the server trains a larger one on their ensemble.

    Cho, Manoel, Joshi, Sim and Dimitriadis, "Heterogeneous Ensemble Knowledge Transfer for Training Large
    Models in Federated Learning", IJCAI 2022, arXiv:2204.12703. In a round, (1) each client trains the small
    model that it is assigned; (2) the representation layers, which all models have in common, are averaged
    over all clients; (3) the large model learns, on unlabeled data at the server, the label of the
    variance-weighted consensus and, with weight lam, the opinion of the models that disagree, see
    `consensus_and_diversity`; (4) each small model becomes the mean over its own clients, with the
    representation layers of the large one.

    The large model is the federation's `model`, which `client_models` gives to no client. The small ones are
    `other_models`, and the representation layers `shared_layers`:
    `Federation(model=large, other_models=[a, b], client_models=[1, 2, ...], shared_layers=["network.head"])`.
    Without `shared_layers`, nothing comes back to the clients. Formulas and defaults are as in a public
    implementation by others; the paper's text could not be checked. There, samples on which all agree are
    pulled to the uniform distribution; here the diversity leaves them alone. There, all clients count alike
    in means, which is `weighting="uniform"` here; the default weights them by their samples. Travels: a small
    model each way; the public data stay at the server.

    Args:
        lam: Weight of the diversity.
        steps: Steps of the large model in a round. At 0 this is FedAvg of each small model.
        batch_size: Samples in a step.
        lr: Learning rate of the large model's SGD.
        momentum: Momentum of the large model's SGD, begun anew in every round.
        layer: Layer that gives the logits; `""` is the module's output.
        weighting: How clients' weights are averaged.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range; before any training, if there are no public data, clients have
            different classes or personal layers, or a client has the large model.

    Example:
        >>> FedET(steps=64).lam
        0.05
    """

    supports_multiple_models = True
    needs_public_data = True

    def __init__(
        self,
        lam: float = 0.05,
        steps: int = 128,
        batch_size: int = 64,
        lr: float = 5e-3,
        momentum: float = 0.9,
        layer: str = "",
        weighting: Weighting = "samples",
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(weighting)
        expect(lam=lam, ge=0)
        expect(steps=steps, ge=0)
        expect(batch_size=batch_size, ge=1)
        expect(lr=lr, gt=0)
        expect(momentum=momentum, ge=0, lt=1)
        self.lam, self.steps, self.batch_size = lam, steps, batch_size
        self.trains_server_model = steps > 0  # though no client has its architecture
        self.lr, self.momentum, self.layer = lr, momentum, layer
        self.input_key = input_key
        self._checked = False

    def setup(self, x: Tensors) -> None:
        """Makes the next round check the clients again."""
        self._checked = False

    def round(self, server: "ServerRound") -> Tensors:
        """Averages the small models, and trains the large one."""
        self._check(server)
        if not self.steps:
            return super().round(server)
        ensemble = ClientEnsemble(
            server, self.layer, self.batch_size, "logits", 1.0, input_key=self.input_key
        )
        mean = server.mean(ensemble.listen(server.train()))["delta"]
        labels, others = consensus_and_diversity(ensemble.logits())
        return mean | self._transferred(server, mean, torch.cat([labels, others], 1).float())

    def _check(self, server: "ServerRound") -> None:
        """Refuses, before any training, federations that do not fit."""
        if self._checked:
            return
        large = [client for client in range(server.population) if server.kind_of(client) == 0]
        if large:
            raise ValueError(
                f"client_models gives client {large[0]} the large model of the server, which is the federation's model: give all "
                f"clients one of other_models, such as client_models={[1] * server.population}."
            )
        for kind, model in enumerate(server.models):
            travels = server.layout(kind).weights
            own = [n for n, p in model.named_parameters() if p.requires_grad and n not in travels]
            if own:
                raise ValueError(
                    f"personal_layers: {own[0]} stays with each client, so that the server cannot ask the clients' models, as "
                    "FedET does; leave it out, or exchange what clients say, as FedMD does."
                )
        check_sizes(server, self.layer, input_key=self.input_key)
        self._checked = True

    @torch.no_grad()
    def _transferred(self, server: "ServerRound", mean: Tensors, targets: Tensor) -> Tensors:
        """Returns the change of the large model's weights, and gives its buffers to the server."""
        layout, student, public = server.layout(0), copied(server.models[0], "model"), server.public
        tensors = {**dict(student.named_parameters()), **dict(student.named_buffers())}
        for own, at in layout.weights.items():
            tensors[own].add_(mean[at])
        for own, at in layout.buffers.items():
            tensors[own].copy_(server.mean_buffers().get(at, tensors[own]))
        parameters = [tensors[own] for own in layout.weights]
        targets = targets.to(student.device)
        rows = draw(server.seed, server.index, len(public), self.steps * self.batch_size)

        def batches() -> Iterator[tuple[Call, Tensor]]:
            places = np.array_split(rows, self.steps)
            calls = public_calls(student, public, rows, self.batch_size, server.runtime, self.input_key)
            for chosen, call in zip(places, calls, strict=True):
                yield call, targets[torch.from_numpy(chosen)]

        def step(batch: tuple[Call, Tensor]) -> Tensor:
            with Taps(student, [self.layer], "layer") as taps:
                run(student, batch[0])
            labels, others = batch[1].chunk(2, 1)
            return ensemble_transfer_loss(taps.output(self.layer).float(), labels, others, self.lam)

        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum)
        seed_everything(
            derive(server.seed, server.index, server.population), student.device
        )  # so that all ranks train alike
        with torch.enable_grad():
            minimize(student, optimizer, batches(), step, server.runtime.trainer)
        server.set_buffers({at: tensors[own] for own, at in layout.buffers.items()})
        return {at: tensors[own].detach() - server.x[at] for own, at in layout.weights.items()}
