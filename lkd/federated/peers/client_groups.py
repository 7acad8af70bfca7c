"""Groups of clients that form one node of a communication graph."""

from collections.abc import Callable, Sequence

from lkd.federated.peers.peer_weights import combine
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.aggregation import ClientReply


class Collections(list[list[int]]):
    """The nodes of a graph as lists of clients.

    Args:
        collections: Lists of ids; None: every client is a node.
        population: Number of all clients.

    Raises:
        ValueError: If a client is in no list or in two, or a list is empty.

    Example:
        >>> nodes = Collections([[0, 2], [1]], population=3)
        >>> nodes.of(2), sorted(nodes.averaging)
        (0, [0, 2])
    """

    def __init__(self, collections: Sequence[Sequence[int]] | None, population: int) -> None:
        super().__init__([[k] for k in range(population)] if collections is None else map(list, collections))
        named = sorted(k for members in self for k in members)
        if named != list(range(population)) or not all(self):
            raise ValueError(
                f"collections={list(self)} must name each client from 0 to {population - 1} once, and none may be empty."
            )
        self._node = {k: node for node, members in enumerate(self) for k in members}
        self.averaging = {k for members in self if len(members) > 1 for k in members}

    def of(self, client: int) -> int:
        """Returns the node of a client."""
        return self._node[client]

    def check(self, kind_of: Callable[[int], int]) -> None:
        """Refuses a collection of several architectures, whose weights cannot be averaged.

        Args:
            kind_of: Gives the number of a client's architecture.

        Raises:
            ValueError: If there is one; the message says how to give its members one architecture.
        """
        for members in self:
            if len(kinds := {kind_of(k) for k in members}) > 1:
                raise ValueError(
                    f"collections: clients {members} average their weights, but have the architectures {sorted(kinds)}; give "
                    "all of a collection one, by Federation(client_models=[...])."
                )

    def means(self, told: Sequence[ClientReply]) -> dict[int, Tensors]:
        """Averages the weights in each collection, over members that took part, weighted by samples."""
        weights = {t.client: t.knowledge for t in told if t.client in self.averaging}
        samples = {t.client: float(t.samples) for t in told}
        found: dict[int, Tensors] = {}
        for members in self:
            here = [k for k in members if k in weights]
            if here:
                total = sum(samples[k] for k in here)
                mean = combine(weights, {k: samples[k] / total for k in here})
                found |= dict.fromkeys(here, mean)
        return found
