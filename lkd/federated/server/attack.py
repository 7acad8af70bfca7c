"""Lying clients, to test robust aggregation."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch

from lkd.checks import expect
from lkd.federated.protocol.messages import TELL_SIZES, Message, Reply
from lkd.federated.protocol.seeds import derive
from lkd.federated.protocol.tensors import Tensors, as_real, as_type, is_inexact
from lkd.federated.server.calls import Exchange

Kind = Literal["sign_flip", "scale", "noise"]
ATTACK = 0x61747461636B  # separates these draws from those of a client's honest work


class Attack:
    """Attack by clients that train honestly, but reply something else than what they have learned.

    They falsify the change of the weights, and knowledge in tables: logits or probabilities of public
    samples `(N, C)`, means of classes `(C, D)`. Vectors, such as counts of samples, and numbers stay true. A
    false reply that is `Federation(outlier_factor=...)` times as long as others' is left out before a rule
    sees it.

    Args:
        clients: Ids of the clients that lie, in every round.
        kind: `"sign_flip"`: the opposite of what they have learned (Li et al., "RSA", AAAI 2019,
            arXiv:1811.03761); `"scale"`: a multiple of it, which outweighs the others in a mean; `"noise"`:
            Gaussian noise of the same length (Blanchard et al. 2017, Section 4, draw it unscaled).
        scale: How many times as long the false reply is.
        seed: Seed of the noise, which depends on (seed, round, client).

    Raises:
        ValueError: For no client, an unknown kind or a scale that is not above 0.

    Example:
        >>> attack = Attack(clients=[3], scale=2.0)
        >>> attack.falsify({"w": torch.tensor([1.0, -2.0])}, round=0, client=3)
        {'w': tensor([-2.,  4.])}
    """

    def __init__(
        self, clients: Sequence[int], kind: Kind = "sign_flip", scale: float = 1.0, seed: int = 0
    ) -> None:
        if not clients or min(clients) < 0:
            raise ValueError(f"clients={list(clients)} must be ids of one or more clients that lie.")
        expect(kind=kind, among=get_args(Kind))
        expect(scale=scale, gt=0)
        expect(seed=seed, ge=0)
        self.clients, self.kind, self.scale, self.seed = set(clients), kind, scale, seed

    def check(self, population: int) -> None:
        """Refuses ids of clients that do not exist.

        Raises:
            ValueError: If there are any.
        """
        if max(self.clients) >= population:
            raise ValueError(
                f"attack.clients={sorted(self.clients)}: the last of {population} clients is {population - 1}."
            )

    def on(self, exchange: Exchange) -> Exchange:
        """Wraps an engine's exchange such that these clients' replies are falsified, whatever the verb."""

        def hostile(verb: str, messages: dict[int, Message]) -> Iterator[Reply]:
            rounds = {client: message.config["round"] for client, message in messages.items()}
            for reply in exchange(verb, messages):
                # sizes stay true: a client with a false size would be refused
                if reply.client in self.clients and not reply.error and verb != TELL_SIZES:
                    who = (rounds[reply.client], reply.client)
                    if "delta" in reply.tensors:
                        reply.tensors["delta"] = self.falsify(reply.tensors["delta"], *who)
                    tables = {n: t for n, t in reply.knowledge.items() if is_inexact(t) and t.dim() > 1}
                    if reply.knowledge and not tables and not reply.tensors.get("delta"):
                        raise ValueError(
                            f"attack: what clients tell here, {', '.join(map(repr, reply.knowledge))}, is no table of numbers that "
                            "could be falsified: an attack is for changes of weights, logits and features."
                        )
                    reply.knowledge = {**reply.knowledge, **self.falsify(tables, *who)}
                yield reply

        return hostile

    @torch.no_grad()
    def falsify(self, told: Tensors, round: int, client: int) -> Tensors:
        """Falsifies what a client replies: its change of the weights, or its knowledge."""
        if self.kind != "noise":
            factor = self.scale if self.kind == "scale" else -self.scale
            return {name: factor * tensor for name, tensor in told.items()}
        generator = torch.Generator().manual_seed(derive(self.seed, round, client, ATTACK))
        drawn = {n: torch.randn(as_real(t).shape, generator=generator) for n, t in told.items()}
        noise = {n: as_type(drawn[n], t.dtype).to(t.device) for n, t in told.items()}
        longer = _norm(told) / _norm(noise).clamp(min=1e-12)
        return {name: self.scale * longer.to(tensor) * tensor for name, tensor in noise.items()}


def _norm(tensors: Tensors) -> torch.Tensor:
    squares = [as_real(tensor).double().square().sum() for tensor in tensors.values()]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
