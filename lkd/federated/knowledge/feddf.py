"""FedDF: the server distills the ensemble of its clients' models into its own."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.copies import copied
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.knowledge.common.client_ensemble import ClientEnsemble
from lkd.federated.knowledge.common.compatibility import check_sizes
from lkd.federated.knowledge.common.consensus import Of
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.distill_with_early_stop import fit
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Tensors, is_inexact, zeros_like
from lkd.federated.server.robust import Rule

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FedDF(Algorithm):
    """FedAvg, after which the server's model learns from the clients' ensemble on unlabeled data.

    Lin et al., "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020,
    arXiv:2006.07242, Algorithm 1 (one architecture) and 3 (several: each starts from the mean of its own
    clients, and all learn from the ensemble of all clients):
    `x <- x - eta d KL(softmax(1/|S| sum_k f(y_k)), softmax(f(x))) / dx`, Adam with lr 1e-3 and cosine
    annealing, at most 10,000 steps of 128 samples, stopped after 1000 without a lower loss on a tenth of the
    public data that is kept apart, whose best weights are returned. (The paper validates with labels, which a
    server without any does not have.) The clients' models answer in eval mode, and the student trains in train
    mode, as in the authors' code, so that its dropout is active: with a high dropout and few steps, distillation
    can cost more than it gives, whatever the loss on the held-out data says. Their clipping of gradients to a
    norm of 5, of which the paper says nothing, is left out. Travels what FedAvg's does; the public data stay at
    the server.

    Args:
        steps: Most steps of distillation in a round. At 0 this is FedAvg.
        batch_size: Samples in a step.
        lr: Adam's first learning rate.
        temperature: Temperature of both softmaxes.
        of: What the ensemble averages: `"logits"`, as published, or `"probabilities"`.
        rule: A robust rule in place of the ensemble's average; that for the weights is
            `Federation(aggregator=...)`.
        average: Whether the student starts from the mean of the clients' weights; else it continues from its
            own.
        patience: Steps without a lower loss on the held-out data, after which it stops.
        check: Steps between two measurements of that loss.
        layer: Layer that gives the logits; `""` is the module's output.
        weighting: How clients' weights are averaged.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range, and, before any training, if there are no public data, clients
            have different classes, or layers are personal or common to several architectures.
    """

    stacks = True
    supports_multiple_models = True
    needs_public_data = True

    def __init__(
        self,
        steps: int = 10_000,
        batch_size: int = 128,
        lr: float = 1e-3,
        temperature: float = 1.0,
        of: Of = "logits",
        rule: Rule | None = None,
        average: bool = True,
        patience: int = 1000,
        check: int = 100,
        layer: str = "",
        weighting: Weighting = "samples",
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(weighting)
        expect(batch_size=batch_size, patience=patience, check=check, ge=1)
        if not steps and not average:
            raise ValueError("steps=0 and average=False: the server's model would stay as it is.")
        expect(steps=steps, ge=0)
        expect(lr=lr, temperature=temperature, gt=0)
        expect(of=of, among=("logits", "probabilities"))
        self.steps, self.batch_size, self.lr, self.temperature = steps, batch_size, lr, temperature
        self.of, self.average, self.patience, self.check_every = of, average, patience, check
        self.rule, self.layer, self.input_key, self._checked = rule, layer, input_key, False
        self.trains_server_model = steps > 0  # also where no client has its architecture

    def setup(self, x: Tensors) -> None:
        """Makes the next round check the clients again."""
        self._checked = False

    def round(self, server: "ServerRound") -> Tensors:
        """Averages the weights, then distills into each architecture."""
        if not self.steps:
            return super().round(server)
        self._check(server)
        ensemble = ClientEnsemble(
            server, self.layer, self.batch_size, self.of, self.temperature, self.rule, self.input_key
        )
        mean = server.mean(ensemble.listen(server.train()))["delta"]
        start = mean if self.average else zeros_like(mean)
        targets, buffers = ensemble.answer(), server.mean_buffers() if self.average else {}
        delta: Tensors = {}
        for kind in range(len(server.models)):
            delta |= self._distilled(server, kind, start, buffers, targets)
        return delta

    def _check(self, server: "ServerRound") -> None:
        """Refuses, before any training, what cannot be distilled."""
        check_whole_models(server, "FedDF", self.rule is not None)
        if not self._checked:
            check_sizes(server, self.layer, input_key=self.input_key)
            self._checked = True

    @torch.no_grad()
    def _distilled(
        self, server: "ServerRound", kind: int, start: Tensors, buffers: Tensors, targets: Tensor
    ) -> Tensors:
        """Returns the change of one architecture's weights, and gives its buffers to the server."""
        layout, student = server.layout(kind), copied(server.models[kind], "model")
        tensors = {**dict(student.named_parameters()), **dict(student.named_buffers())}
        for own, at in layout.weights.items():
            tensors[own].add_(start[at])
        for own, at in layout.buffers.items():
            tensors[own].copy_(buffers.get(at, tensors[own]))
        seed = derive(server.seed, server.index, server.population + kind)  # differs from all clients' seeds
        seed_everything(seed, student.device)  # so that all ranks train alike
        fit(
            student,
            [tensors[own] for own in layout.weights],
            server.public,
            targets,
            lambda logits, wanted: soft_cross_entropy(logits, wanted, self.temperature),
            server.runtime,
            seed,
            self.steps,
            self.batch_size,
            self.lr,
            self.patience,
            self.check_every,
            self.layer,
            self.input_key,
        )
        server.set_buffers({at: tensors[own] for own, at in layout.buffers.items()})
        return {at: tensors[own] - server.x[at] for own, at in layout.weights.items()}


def check_whole_models(server: "ServerRound", who: str, guarded: bool = False) -> None:
    """Refuses a federation whose server cannot run its clients' models, or not each architecture separately.

    Args:
        server: The round.
        who: Name of the algorithm, for messages.
        guarded: Whether the joining of the models' outputs has a robust rule of its own.

    Raises:
        ValueError: For no public data, personal or common layers, or a robust rule for the weights alone.
    """
    server.public  # noqa: B018  # raises
    layouts = [server.layout(kind) for kind in range(len(server.models))]
    for model, layout in zip(server.models, layouts, strict=True):
        trained = [n for n, p in model.named_parameters() if p.requires_grad]
        own = [n for n in trained if n not in layout.weights]
        kept = model.state_dict().keys() & {n for n, b in model.named_buffers() if is_inexact(b)}
        own += sorted(kept - layout.buffers.keys())
        if own:
            raise ValueError(
                f"personal_layers: {own[0]} stays with each client, so that the server cannot ask the clients' models, as "
                f"{who} does; leave it out, or exchange what clients say, as FedMD does."
            )
    if server.rule is not None and not guarded:
        raise ValueError(
            f"aggregator={type(server.rule).__name__} protects the mean of the weights alone, and {who} also averages what the "
            "clients' models say: give that a rule, too, FedDF(rule=...)."
        )
    names = [at for layout in layouts for at in layout.weights.values()]
    if len(set(names)) < len(names):
        raise ValueError(
            f"shared_layers: {who} distills into every architecture by itself, so that they cannot have layers in common."
        )
