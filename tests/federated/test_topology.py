"""Every graph against its definition in plain loops, and what no topology accepts."""

import math

import networkx as nx
import pytest
import yaml
from jsonargparse import ArgumentParser

from lkd.federated import topology as topologies
from lkd.federated.topology import (
    Chain,
    Complete,
    ErdosRenyi,
    Grid,
    Hierarchical,
    Islands,
    RandomNeighbors,
    Ring,
    SmallWorld,
    Star,
    TimeVarying,
    Topology,
)

SIZES = [2, 3, 4, 7, 9, 12]
EVERY = [Complete(), Ring(), Ring(directed=True), Chain(), Star(1), Grid(), Islands(1), Islands(1, 1), Hierarchical(),
         Hierarchical(3), ErdosRenyi(0.5), SmallWorld(2, 0.3), RandomNeighbors(), TimeVarying([Ring(), Star()])]  # fmt: skip
every_topology = pytest.mark.parametrize("topology", EVERY, ids=repr)
sizes = pytest.mark.parametrize("nodes", SIZES)


def expected(nodes, related):
    return [[j for j in range(nodes) if j != k and related(k, j)] for k in range(nodes)]


@sizes
def test_complete(nodes):
    assert Complete().edges(nodes) == expected(nodes, lambda k, j: True)


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("nodes", [6, 7, 9])
def test_ring(nodes, hops):
    both = expected(nodes, lambda k, j: min((j - k) % nodes, (k - j) % nodes) <= hops)
    assert Ring(hops).edges(nodes) == both
    ahead = expected(nodes, lambda k, j: (j - k) % nodes <= hops)  # k learns from those after it
    assert Ring(hops, directed=True).edges(nodes) == ahead


def test_the_shortest_rings():
    assert Ring().edges(2) == Ring(directed=True).edges(2) == [[1], [0]]
    assert Ring(2).edges(4) == Ring(3, directed=True).edges(4) == Complete().edges(4)


@sizes
def test_chain(nodes):
    assert Chain().edges(nodes) == expected(nodes, lambda k, j: abs(k - j) == 1)


@sizes
@pytest.mark.parametrize("center", [0, 1])
def test_star(nodes, center):
    assert Star(center).edges(nodes) == expected(nodes, lambda k, j: center in (k, j))


@pytest.mark.parametrize(
    ("nodes", "rows", "columns"),
    [
        (9, None, 3),
        (12, None, 4),
        (12, 2, 6),
        (5, None, 3),
        (7, None, 4),
        (10, None, 4),
        (3, 3, 1),
        (5, 1, 5),
    ],
)
def test_grid(nodes, rows, columns):
    def near(k, j):
        return abs(k // columns - j // columns) + abs(k % columns - j % columns) == 1

    assert Grid(rows).edges(nodes) == expected(nodes, near)


@pytest.mark.parametrize(
    ("nodes", "rows", "shape"), [(12, None, (3, 4)), (9, 3, (3, 3)), (10, None, (2, 5)), (5, 1, (1, 5))]
)
def test_torus(nodes, rows, shape):
    def near(k, j):
        apart = [
            min((a - b) % n, (b - a) % n)
            for a, b, n in zip(divmod(k, shape[1]), divmod(j, shape[1]), shape, strict=True)
        ]
        return sum(apart) == 1

    assert Grid(rows, torus=True).edges(nodes) == expected(nodes, near)


@pytest.mark.parametrize(
    ("nodes", "islands", "sizes"), [(9, 3, [3, 3, 3]), (9, 2, [5, 4]), (11, 4, [3, 3, 3, 2])]
)
@pytest.mark.parametrize("bridges", [0, 1, 2])
def test_islands(nodes, islands, sizes, bridges):
    home = [island for island, size in enumerate(sizes) for _ in range(size)]
    members = [[k for k in range(nodes) if home[k] == island] for island in range(islands)]
    pairs = {(i, (i + 1) % islands) for i in range(islands)} if islands > 2 else {(0, 1)}
    built = {(members[i][-1 - b], members[j][b]) for i, j in pairs for b in range(bridges)}
    found = Islands(islands, bridges).edges(nodes)
    assert found == expected(nodes, lambda k, j: home[k] == home[j] or (k, j) in built or (j, k) in built)
    crossing = sum(home[k] != home[j] for k, row in enumerate(found) for j in row)
    assert crossing == 2 * bridges * len(pairs)


@sizes
@pytest.mark.parametrize("branching", [1, 2, 3])
def test_hierarchical(nodes, branching):
    def parent(k):
        return (k - 1) // branching if k else None

    assert Hierarchical(branching).edges(nodes) == expected(
        nodes, lambda k, j: parent(k) == j or parent(j) == k
    )


@sizes
def test_time_varying(nodes):
    cycle = [Chain(), Star(), Complete()]
    changing = TimeVarying(cycle, every=2)
    for round in range(14):
        assert changing.edges(nodes, round) == cycle[round // 2 % 3].edges(nodes)
    assert changing.varies and not TimeVarying([Ring()]).varies and TimeVarying([RandomNeighbors()]).varies


def test_time_varying_hands_the_round_on():
    drawn = RandomNeighbors(2)
    changing = TimeVarying([Ring(), drawn])
    assert changing.edges(9, 3) == drawn.edges(9, 3) != drawn.edges(9, 1)


@every_topology
@pytest.mark.parametrize("nodes", [3, 9])
def test_what_all_have_in_common(topology, nodes):
    for round in range(3):
        found = topology.edges(nodes, round)
        assert len(found) == nodes
        assert all(row == sorted(set(row)) and set(row) <= set(range(nodes)) for row in found)
        assert not any(k in row for k, row in enumerate(found))
        assert found == topology.edges(nodes, round)
        if not topology.varies:
            assert found == topology.edges(nodes, 0)
    found[0].append(99)  # a caller may do with them what it likes
    assert 99 not in topology.edges(nodes, 2)[0]
    points = topology.layout(nodes)
    assert len(points) == nodes
    assert min(math.dist(p, q) for i, p in enumerate(points) for q in points[:i]) > 0.9


@every_topology
def test_a_single_client_has_nobody_to_learn_from(topology):
    assert topology.edges(1) == [[]]


@every_topology
def test_numbers_out_of_range(topology):
    with pytest.raises(ValueError, match="1 or more"):
        topology.edges(0)
    with pytest.raises(ValueError, match="round=-1"):
        topology.edges(3, -1)


class Given(Topology):
    """A user's own."""

    def __init__(self, graph):
        self._graph = graph

    def graph(self, nodes, round=0):
        return self._graph


def test_a_teacher_need_not_learn():
    assert Given(nx.DiGraph([(0, 1), (2, 1)])).edges(3) == [[1], [], [1]]


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (nx.Graph([(0, 1), (1, 9)]), r"Given\(\) names client 9, but the 3 clients are numbered from 0 to 2"),
        (nx.Graph([(0, 1), (1, "a")]), r"names client a, but"),
        (nx.Graph([(0, 1), (1, 2), (2, 2)]), r"edge from client 2 to itself"),
        (nx.Graph([(0, 1)]), r"isolates client 2"),  # which is not in it at all
        (nx.empty_graph(3), r"isolates clients 0, 1, 2"),
        (nx.DiGraph([(2, 0)]), r"isolates client 1"),
    ],
)
def test_graphs_that_cannot_be(graph, words):
    with pytest.raises(ValueError, match=words):
        Given(graph).edges(3)


def test_a_topology_without_a_graph():
    with pytest.raises(NotImplementedError, match="Topology has no graph"):
        Topology().edges(3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ring(0), "hops=0 must be 1 or more"),
        (lambda: Star(-1), "center=-1"),
        (lambda: Grid(0), "rows=0"),
        (lambda: Islands(0), "islands=0"),
        (lambda: Islands(2, -1), "bridges=-1"),
        (lambda: Hierarchical(0), "branching=0"),
        (lambda: TimeVarying([]), r"topologies=\[\] must be a list"),
        (lambda: TimeVarying(Ring()), r"topologies=Ring\(hops=1, directed=False\) must be a list"),
        (lambda: TimeVarying([Ring()], every=0), "every=0"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("wrong", [Ring, "Ring"])
def test_no_topology_in_a_time_varying_one(wrong):
    with pytest.raises(TypeError, match=r"Ring'? must be an object of Topology"):
        TimeVarying([Star(), wrong])


@pytest.mark.parametrize(
    ("topology", "nodes", "words"),
    [
        (Ring(3), 5, r"Ring\(hops=3.*5 clients has at most hops=2"),
        (Ring(5, directed=True), 5, "at most hops=4"),
        (Star(9), 9, r"Star\(center=9\): the last of 9 clients is 8"),
        (Grid(4), 5, "5 clients do not fill 4 rows of 2"),
        (Grid(9), 5, "5 clients do not fill 9 rows of 1"),
        (Grid(2, torus=True), 5, "5 clients do not fill 2 full rows of 3"),
        (Grid(torus=True), 7, "7 clients fill no two equal rows"),
        (Islands(3), 2, "needs at least 3 clients, not 2"),
        (Islands(3), 5, "isolates client 4"),  # 2, 2, 1
        (Islands(3, 2), 5, "has 1, too few for bridges=2"),
    ],
)
def test_numbers_of_clients_that_do_not_fit(topology, nodes, words):
    with pytest.raises(ValueError, match=words):
        topology.edges(nodes)
    with pytest.raises(ValueError, match=words):  # long before its turn
        TimeVarying([Complete(), topology], every=1000).check(nodes)


def test_a_single_client_an_island_is_fine_with_bridges():
    assert Islands(3, 1).edges(3) == Ring().edges(3)


def test_a_config_may_nest_them():
    parser = ArgumentParser()
    parser.add_argument("--topology", type=Topology)
    given = {"class_path": "lkd.federated.TimeVarying", "init_args": {"topologies": [
        {"class_path": "lkd.federated.Ring", "init_args": {"hops": 2}}, {"class_path": "lkd.federated.Grid"}], "every": 5}}  # fmt: skip
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name before 4.49
    made = instantiate(parser.parse_args(["--topology", yaml.safe_dump(given)])).topology
    assert (
        repr(made)
        == "TimeVarying(topologies=[Ring(hops=2, directed=False), Grid(rows=None, torus=False)], every=5)"
    )


def test_all_of_them_are_tested_here():
    kinds = {kind for name in topologies.__all__ if isinstance(kind := getattr(topologies, name), type)}
    kinds = {kind for kind in kinds if issubclass(kind, Topology)}
    assert kinds - {type(topology) for topology in EVERY} == {Topology, topologies.FromFile}
