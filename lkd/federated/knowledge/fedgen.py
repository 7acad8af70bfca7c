"""FedGen: the server learns to generate features of each class, on which clients train their heads."""

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.func import functional_call

from lkd.addresses import find_layer
from lkd.checks import expect
from lkd.copies import copied
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.generation import EnsembleLoss, diversity_loss, ensemble_loss, labels_like
from lkd.federated.knowledge.common.optimizer_state import memory_of, remember
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Lists, Tensors, moved
from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss
from lkd.taps import Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

SERVER = 0x67656E  # separates the server's random draws from the clients'
COUNTS, SHARES, WEIGHTS = "counts", "shares", "generator/"


class FedGen(Algorithm):
    """Data-free distillation: FedAvg whose clients also train on features from the server's generator.

    Zhu, Hong and Zhou, "Data-Free Knowledge Distillation for Heterogeneous Federated Learning", ICML 2021,
    arXiv:2105.10056, Algorithm 1. The server trains G(z | y) such that the clients' heads g_k see label y in
    its features (`ensemble_loss`), plus eta times `diversity_loss`; y is drawn from the classes' shares p(y)
    in the clients' training data. From the second round on a client's loss is
    `L + alpha CE(g(z'), y') + beta KL(softmax(g(z)) || f(x))`: z' is generated for labels y' drawn from p, as
    many as the batch has samples, and z for the batch's own labels; its softmax is a constant. The paper has
    the first two terms with weight one. The KL, both weights of 10, their decay by .98 per round, and the
    server's loss and optimizer (Adam, 50 steps of 32, lr 3e-4, weight decay .01) are those of the authors'
    code. Noise is normal, as in the paper (uniform in the code). The authors' further adversarial term has
    weight 0 there and is left out.

    Travels: the weights both ways; in addition the generator and p(y) down, and C label counts up. Heads have
    to be shared. They are all that is shared with `Federation(personal_layers=["network.extractor"])`, for
    example.

    Args:
        generator: Maps noise `(B, generator.noise)` and labels `(B,)` below `generator.classes` to what
            `head` takes, such as a `FeatureGenerator`.
        head: Layer of the clients' module that turns features into logits.
        alpha: Weight of the cross entropy on generated features. If beta is 0, too, alpha = 0 is FedAvg.
        beta: Weight of the KL.
        decay: Factor of both weights per round.
        eta: Weight of the diversity.
        of: Which loss trains the generator, see `ensemble_loss`.
        steps: The generator's steps in a round.
        batch_size: Features in such a step.
        lr: Adam's learning rate, also multiplied by `decay` per round.
        weight_decay: Adam's weight decay.
        layer: Layer that gives the logits; `""` is the module's output.
        label_key: Key or index of the labels in a batch.
        weighting: How clients' weights are averaged.

    Raises:
        ValueError: For numbers out of range, a layer that does not exist, a head that does not fit the
            generator, or one that is not shared.

    Example:
        >>> from lkd.models import FeatureGenerator
        >>> FedGen(FeatureGenerator(classes=10, features=64), head="network.layers.3").alpha
        10.0
    """

    supports_multiple_models = True

    def __init__(
        self,
        generator: nn.Module,
        head: str,
        alpha: float = 10.0,
        beta: float = 10.0,
        decay: float = 0.98,
        eta: float = 1.0,
        of: EnsembleLoss = "losses",
        steps: int = 50,
        batch_size: int = 32,
        lr: float = 3e-4,
        weight_decay: float = 1e-2,
        layer: str = "",
        label_key: str | int = 1,
        weighting: Weighting = "samples",
    ) -> None:
        super().__init__(weighting)
        expect(alpha=alpha, beta=beta, eta=eta, weight_decay=weight_decay, ge=0)
        expect(steps=steps, batch_size=batch_size, ge=1)
        expect(lr=lr, gt=0)
        expect(decay=decay, gt=0, le=1)
        expect(of=of, among=("losses", "logits"))
        for name in ("noise", "classes"):
            if not isinstance(getattr(generator, name, None), int):
                raise ValueError(f"generator must have a number `{name}`, as FeatureGenerator has.")
        self.generator = cast(Any, generator)
        self.head, self.classes = head, int(self.generator.classes)
        self.alpha, self.beta, self.decay, self.eta, self.of = alpha, beta, decay, eta, of
        self.steps, self.batch_size, self.lr, self.weight_decay = steps, batch_size, lr, weight_decay
        self.layer, self.label_key = layer, label_key
        self._start = copy.deepcopy(generator.state_dict())

    def setup(self, x: Tensors) -> None:
        """Starts with the generator's original weights."""
        self.state = {"generator": moved(self._start, "cpu")}

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the losses on generated features."""
        head = find_layer(module, self.head, "head")
        self._rehearse(head, module.device)

        def extra(scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor | None:
            labels = labels_of(batch, self.label_key)
            scratch["counts"] += torch.bincount(labels.cpu(), minlength=self.classes)
            if scratch["shares"] is None or not (self.alpha or self.beta):
                return None
            random = scratch["random"]
            drawn = labels_like(scratch["shares"], len(labels), random).to(labels)
            made = [self._features(wanted, random).to(_dtype_of(head)) for wanted in (drawn, labels)]
            on_drawn, on_own = map(head, made)
            hard = F.cross_entropy(full_precision(on_drawn), drawn)
            soft = kd_loss(taps.output(self.layer), on_own, temperature=1.0)
            return scratch["decayed"] * (self.alpha * hard + self.beta * soft)

        add_loss(module, extra, [self.layer], "train/generated_loss")

    @torch.no_grad()
    def _rehearse(self, head: nn.Module, device: torch.device) -> None:
        """Refuses a head that does not fit the generator's features or classes."""
        model, labels = self.generator.to(device).eval(), torch.arange(self.classes, device=device)
        noise = torch.zeros(self.classes, model.noise, device=device, dtype=_dtype_of(model))
        made = model(noise, labels).to(_dtype_of(head))
        try:
            said = head(made)
        except RuntimeError as error:
            raise ValueError(
                f"head={self.head!r} cannot take the generator's features {tuple(made.shape[1:])}: {error}"
            ) from error
        if said.shape != (self.classes, self.classes):
            raise ValueError(
                f"head={self.head!r} gives {tuple(said.shape[1:])}, the generator is for {self.classes} classes."
            )

    @torch.no_grad()
    def _features(self, labels: Tensor, random: torch.Generator) -> Tensor:
        noise = torch.randn(
            len(labels), self.generator.noise, generator=random, dtype=_dtype_of(self.generator)
        )
        return self.generator(noise.to(labels.device), labels)

    def begin(self, context: ClientContext) -> None:
        """Loads the generator that was sent."""
        sent = context.knowledge
        context.scratch.update(
            counts=torch.zeros(self.classes),
            shares=sent.get(SHARES),
            random=torch.Generator().manual_seed(derive(context.seed, SERVER)),
            decayed=self.decay**context.round,
        )
        if SHARES in sent:
            weights = {n.removeprefix(WEIGHTS): t for n, t in sent.items() if n.startswith(WEIGHTS)}
            self.generator.to(context.module.device).eval().load_state_dict(weights)

    def finish(self, context: ClientContext) -> Lists:
        """Replies how many samples of each class the client has trained on."""
        context.reply_tensors = {COUNTS: context.scratch["counts"]}
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Averages the weights, and trains the generator against the clients' heads."""
        heads: list[tuple[int, Tensors, Tensor]] = []
        delta = server.mean(self._listen(server, server.train(knowledge=self._sent()), heads))["delta"]
        everyone = sorted(
            (h for part in server.gather_objects(heads) for h in part), key=lambda head: head[0]
        )
        self._train(server, everyone)
        return delta

    def _sent(self) -> Tensors:
        """Returns the generator and the shares of the classes; nothing before they are trained."""
        if "labels" not in self.state:
            return {}
        return {SHARES: self.state["labels"][SHARES]} | {
            WEIGHTS + name: tensor for name, tensor in self.state["generator"].items()
        }

    def _listen(
        self, server: "ServerRound", replies: Iterable[Reply], heads: list[tuple[int, Tensors, Tensor]]
    ) -> Iterator[Reply]:
        """Passes replies on, and keeps every client's head and label counts on the way."""
        for reply in replies:
            layout, prefix = server.layout(server.kind_of(reply.client)), f"{self.head}."
            tensors = {
                own: server.x[at] + reply.tensors["delta"][own] for own, at in layout.weights.items()
            } | reply.tensors["buffers"]
            found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if not found:
                raise ValueError(
                    f"head={self.head!r} has no weights that clients share, so the server cannot ask it: leave it out of "
                    "personal_layers."
                )
            heads.append((reply.client, moved(found, "cpu"), reply.knowledge[COUNTS].cpu()))
            yield reply

    def _train(self, server: "ServerRound", heads: list[tuple[int, Tensors, Tensor]]) -> None:
        """Trains the generator, with the same steps on every rank."""
        device, seed = server.models[0].device, derive(server.seed, server.index, SERVER)
        counts = torch.stack([count for _, _, count in heads]).double()
        weights = (counts / counts.sum(0).clamp_min(1)).to(device)
        shares, random = counts.sum(0) / counts.sum(), torch.Generator().manual_seed(seed)
        said = [
            (
                copied(server.models[server.kind_of(i)].get_submodule(self.head), "head").eval(),
                moved(head, device),
            )
            for i, head, _ in heads
        ]
        model = self.generator.to(device).train()
        model.load_state_dict(self.state["generator"])
        optimizer = torch.optim.Adam(
            model.parameters(), self.lr * self.decay**server.index, weight_decay=self.weight_decay
        )
        remember(optimizer, self.state.get("optimizer", {}))
        seed_everything(seed, device)  # in case the generator has dropout
        with torch.enable_grad():
            for _ in range(self.steps):
                labels = labels_like(shares, self.batch_size, random).to(device)
                noise = torch.randn(
                    self.batch_size, model.noise, generator=random, dtype=_dtype_of(model)
                ).to(device)
                z = model(noise, labels)
                logits = torch.stack(
                    [full_precision(functional_call(h, state, (z.to(_dtype_of(h)),))) for h, state in said]
                )
                loss = ensemble_loss(logits, labels, weights, self.of) + self.eta * diversity_loss(
                    noise, z.flatten(1)
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.state = {
            "generator": moved(model.state_dict(), "cpu"),
            "optimizer": moved(memory_of(optimizer), "cpu"),
            "labels": {SHARES: shares.float()},
        }


def _dtype_of(module: nn.Module) -> torch.dtype:
    """Returns the type in which a module computes: a head may be in the run's precision, the generator is as it was given."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
