"""Graphs that change from round to round, e_t(k)."""

from collections.abc import Sequence

from lkd.checks import expect
from lkd.federated.topology.base import Edges, Topology
from lkd.federated.topology.plot_layout import Point
from lkd.shown import shown


class TimeVarying(Topology):
    """Cycle of topologies, one after the other.

    Args:
        topologies: The topologies; each may itself change with the round.
        every: Rounds for which each one stays. Default 1.

    Raises:
        ValueError: If there is no topology or every is below 1.
        TypeError: If one is not a `Topology`.

    Example:
        >>> from lkd.federated.topology import Chain, Star
        >>> changing = TimeVarying([Chain(), Star()], every=10)
        >>> changing.edges(3, round=9), changing.edges(3, round=10), changing.edges(3, round=20)
        ([[1], [0, 2], [1]], [[1, 2], [0], [0]], [[1], [0, 2], [1]])
    """

    def __init__(self, topologies: list[Topology], every: int = 1) -> None:
        expect(every=every, ge=1, why="it is in rounds")
        _check_list(topologies)
        self.topologies, self.every = list(topologies), every

    @property
    def varies(self) -> bool:
        """Whether there is more than one graph."""
        return len(self.topologies) > 1 or self.topologies[0].varies

    def edges(self, nodes: int, round: int = 0) -> Edges:
        """Returns the neighbors of every client in this round."""
        expect(round=round, ge=0)
        return self.topologies[round // self.every % len(self.topologies)].edges(nodes, round)

    def check(self, nodes: int) -> None:
        """Refuses a topology that does not fit, long before its turn."""
        for topology in self.topologies:
            topology.check(nodes)

    def layout(self, nodes: int) -> list[Point]:
        """Places clients as the first topology does, in all rounds, so that changes are visible."""
        return self.topologies[0].layout(nodes)


def _check_list(topologies: Sequence[Topology]) -> None:
    if not isinstance(topologies, list | tuple) or not topologies:
        raise ValueError(
            f"topologies={shown(topologies)} must be a list of at least one, such as [Ring(), Star()]."
        )
    for topology in topologies:
        if not isinstance(topology, Topology):
            raise TypeError(f"topologies: {shown(topology)} must be an object of Topology, such as Ring().")
