"""D-PSGD: peers average their weights with their neighbors'."""

from typing import TYPE_CHECKING, Literal

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext
from lkd.federated.peers.peer_weights import adopt, by_sender, combine, listed, weights_of
from lkd.federated.protocol.tensors import Lists, Tensors, moved
from lkd.federated.topology import Topology, metropolis_weights
from lkd.federated.topology.base import check_topology

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class DecentralizedSGD(Algorithm):
    """Gossip averaging: in each round, a client trains and mixes its weights with its neighbors'.

    Lian et al., "Can Decentralized Algorithms Outperform Centralized Algorithms? A Case Study for
    Decentralized Parallel Stochastic Gradient Descent", NeurIPS 2017, arXiv:1705.09056, Algorithm 1:
    `x_k <- sum_j W_kj x_j - gamma g(x_k)`, where W is symmetric and doubly stochastic; here it has the
    Metropolis weights of the graph. The change `Delta_k` by local training, with as many steps as
    `LocalTraining` says, replaces the gradient step.

    Travels, along each edge: the parameters that train and the float buffers. Buffers (batch statistics),
    which the paper does not have, are always those after training, for `sum_j W_kj v_j + Delta_k` could be a
    negative variance. A client that does not take part in a round, or fails, is left out, and each neighbor
    adds its weight to that of its own model: W stays symmetric and doubly stochastic.

    Args:
        topology: An undirected graph.
        mix: `"before"` mixes the neighbors' parameters before this round's training,
            `sum_j W_kj x_j + Delta_k`, as in Algorithm 1. `"after"` mixes those after it,
            `sum_j W_kj (x_j + Delta_j)` (adapt, then combine), with the new steps.

    Raises:
        ValueError: For an unknown `mix`; in a round, before any training, for a directed graph, or a graph
            for another number of clients.

    Example:
        >>> from lkd.federated.topology import Ring
        >>> DecentralizedSGD(Ring()).mix
        'after'
    """

    aggregates_weights = False

    def __init__(self, topology: Topology, mix: Literal["before", "after"] = "after") -> None:
        super().__init__("uniform")
        expect(mix=mix, among=("before", "after"))
        check_topology(topology)
        self.topology, self.mix = topology, mix

    def begin(self, context: ClientContext) -> None:
        """Keeps the client's parameters before it trains, if these are mixed."""
        context.memory = {}
        if self.mix == "before":
            trained = dict(context.module.named_parameters())
            context.memory = {n: t for n, t in weights_of(context).items() if n in trained}

    def finish(self, context: ClientContext) -> Lists:
        """Replies what the client's neighbors get."""
        context.reply_tensors = {**weights_of(context), **context.memory}
        return {}

    def mix_in(self, context: ClientContext) -> None:
        """Replaces the client's weights by the mixture of its neighbors' and its own."""
        ours, now, before = context.client.id, weights_of(context), moved(context.memory, "cpu")
        senders = context.config["senders"]
        parts = by_sender(moved(context.knowledge, "cpu"), senders)
        weights = dict(zip(senders, context.config["weights"], strict=True))
        weights[ours] = 1.0 - sum(weights.values())  # includes the weights of peers that left
        mixed = combine({**parts, ours: {**now, **before}}, weights)
        adopt(context, {n: now[n] + (t - before[n]) if n in before else t for n, t in mixed.items()})
        context.memory = {}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains the clients, and mixes their weights along the edges."""
        matrix = metropolis_weights(self.topology.edges(server.population, server.index))
        told = {t.client: t.knowledge for t in server.gather(server.train())}
        near = {k: [j for j in told if j != k and matrix[k, j] > 0] for k in told}
        knowledge = {k: listed({j: told[j] for j in js}) for k, js in near.items()}
        config = {k: {"senders": js, "weights": [float(matrix[k, j]) for j in js]} for k, js in near.items()}
        for _ in server.call("mix_in", knowledge, to=told, config=config):
            pass
        return {}
