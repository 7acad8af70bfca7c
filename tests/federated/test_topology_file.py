"""Graphs from files in every format, and what is wrong with bad ones."""

import json

import networkx as nx
import pytest

from lkd.federated.topology import FromFile, Grid, RandomNeighbors, Topology

PAIRS = [(0, 1), (1, 2), (2, 0), (2, 3)]
BOTH = [[1, 2], [0, 2], [0, 1, 3], [2]]
ONE_WAY = [[1], [2], [0, 3], []]


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("name", "text"), [
    ("graph.txt", "# cameras\n0 1\n1 2  # a comment\n\n2 0\n2 3\n"),
    ("graph.edgelist", "0 1 {'weight': 3}\n1 2 {}\n2 0 {}\n2 3 {}\n"),
    ("graph.csv", "0,1\n1,2,0.5\n2, 0\n2,3"),
    ("twice.txt", "0 1\n1 2\n2 0\n2 3\n2 3\n"),
])  # fmt: skip
def test_edge_lists(tmp_path, name, text):
    path = written(tmp_path, name, text)
    assert FromFile(path).edges(4) == BOTH
    assert FromFile(path, directed=True).edges(4) == ONE_WAY


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph])
@pytest.mark.parametrize("form", ["graphml", "json", "links"])
def test_files_that_say_whether_they_are_directed(tmp_path, kind, form):
    graph = kind([*PAIRS, PAIRS[0]])
    nx.set_edge_attributes(graph, 0.5, "weight")
    path = str(tmp_path / ("graph.graphml" if form == "graphml" else "graph.json"))
    if form == "graphml":
        nx.write_graphml(graph, path)
    else:
        data = nx.node_link_data(graph, edges="links" if form == "links" else "edges")
        written(tmp_path, "graph.json", json.dumps(data))
    assert FromFile(path).edges(4) == (ONE_WAY if graph.is_directed() else BOTH)


@pytest.mark.parametrize("topology", [Grid(), RandomNeighbors(2)], ids=repr)
def test_edges_can_be_saved_and_read(tmp_path, topology):
    path = written(tmp_path, "graph.json", json.dumps(topology.edges(9)))
    assert FromFile(path).edges(9) == topology.edges(9)


def test_order_in_the_file_does_not_matter(tmp_path):
    assert FromFile(written(tmp_path, "g.txt", "3 2\n0 2\n2 1\n1 0\n")).edges(4) == BOTH


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("g.txt", "", "it has no edge"),
        ("g.csv", "0 1\n1 2\n", "it has no edge"),  # no comma
        ("g.csv", "source,target\n0,1\n", "names a client 'source', not a whole number"),
        ("g.txt", "C1 C2\n", "names a client 'C1'"),
        ("g.txt", "0 -1\n", "names a client '-1'"),
        ("g.json", "{", "cannot be read as a graph"),
        ("g.json", '{"nodes": []}', "cannot be read as a graph"),
        ("g.json", "[1, 2]", "cannot be read as a graph"),
        ("g.json", "7", "cannot be read as a graph"),
        (
            "g.json",
            '{"nodes": [{"id": 0}, {"id": 1.5}], "edges": [{"source": 0, "target": 1.5}]}',
            r"names a client 1\.5",
        ),
        ("g.graphml", "0 1", "cannot be read as a graph"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, words):
    with pytest.raises(ValueError, match=words) as error:
        FromFile(written(tmp_path, name, text))
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("text", "nodes", "words"),
    [
        ("1 2\n2 3\n", 3, "numbers its clients from 1 to 3; number them from 0"),
        ("0 1\n1 2\n", 5, "has no edge of clients 3, 4; there are 5 clients"),
        ("0 1\n1 2\n", 2, r"FromFile\(.*names client 2, but the 2 clients are numbered from 0 to 1"),
        ("0 1\n1 3\n", 3, "names client 3, but"),
        ("0 1\n1 2\n1 1\n", 3, "edge from client 1 to itself"),
    ],
)
def test_files_for_other_clients(tmp_path, text, nodes, words):
    with pytest.raises(ValueError, match=words):
        FromFile(written(tmp_path, "g.txt", text)).edges(nodes)


def test_a_node_without_an_edge(tmp_path):
    graph = nx.path_graph(3)
    graph.add_node(3)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    with pytest.raises(ValueError, match="isolates client 3"):
        FromFile(str(tmp_path / "g.graphml")).edges(4)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt' is no file"):
        FromFile(str(tmp_path / "nowhere.txt"))


def test_layout(tmp_path):
    joined = FromFile(written(tmp_path, "g.txt", "0 1\n1 2\n2 3\n"))
    apart = [abs(complex(*p) - complex(*q)) for p in joined.layout(4) for q in joined.layout(4)]
    assert len(joined.layout(4)) == 4 and apart[3] == max(apart)  # the ends of a chain
    parts = FromFile(written(tmp_path, "h.txt", "0 1\n2 3\n"))
    assert parts.layout(4) == Topology().layout(4)
