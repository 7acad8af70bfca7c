"""A graph that is read from a file."""

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import networkx as nx

from lkd.federated.topology.base import Topology, listed
from lkd.federated.topology.plot_layout import Point


class FromFile(Topology):
    r"""Graph from a file, with clients numbered from 0. Attributes, such as weights of edges, are ignored.

    - `.graphml`: GraphML, as written by networkx, Gephi, yEd, igraph, ...; the file says whether it is
      directed.
    - `.json`: node-link data as of `networkx.node_link_data`, which says whether it is directed, or a list of
      the neighbors of every client, as of `Topology.edges`.
    - else an edge list: `k j` in a line, in a `.csv` `k,j`; `#` starts a comment.

    Args:
        path: The file. It is read when the object is created.
        directed: Whether an edge list's `k j` means only that k learns from j. Default: j learns from k, too.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read or has no edge. `edges` raises it if the nodes are not the
            clients 0 to K - 1.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "graph.txt")
        ...     _ = path.write_text("0 1\n1 2\n")
        ...     FromFile(str(path)).edges(3), FromFile(str(path), directed=True).edges(3)
        ([[1], [0, 2], [1]], [[1], [2], []])
    """

    def __init__(self, path: str, directed: bool = False) -> None:
        self.path, self.directed = path, directed
        self._graph = self._read()

    def graph(self, nodes: int, round: int = 0) -> Any:
        """Returns the graph of the file, after checking its nodes."""
        found = self._graph.number_of_nodes()
        if set(self._graph) == set(range(1, found + 1)):
            raise ValueError(f"{self.path} numbers its clients from 1 to {found}; number them from 0.")
        if found < nodes:
            missing = [node for node in range(nodes) if node not in self._graph]
            raise ValueError(f"{self.path} has no edge of {listed(missing)}; there are {nodes} clients.")
        return self._graph

    def layout(self, nodes: int) -> list[Point]:
        """Places clients as if edges were springs, so that neighbors are near (Kamada and Kawai 1989)."""
        graph = nx.Graph(self._graph)
        if not nx.is_connected(graph):
            return super().layout(nodes)
        found = nx.kamada_kawai_layout(graph)
        return [tuple(found[node].tolist()) for node in range(nodes)]

    def _read(self) -> Any:
        path = Path(self.path)
        if not path.is_file():
            raise FileNotFoundError(f"path={self.path!r} is no file.")
        try:
            graph = self._parse(path)
            # several edges of a pair count as one; files may hold the numbers of nodes as text
            kind = nx.DiGraph if graph.is_directed() else nx.Graph
            return nx.relabel_nodes(kind(graph), {node: _number(node) for node in graph})
        except (ValueError, TypeError, KeyError, AttributeError, ParseError, nx.NetworkXError) as error:
            raise ValueError(f"path={self.path!r} cannot be read as a graph: {error}") from error

    def _parse(self, path: Path) -> Any:
        if path.suffix == ".graphml":
            graph = nx.read_graphml(path)
        elif path.suffix == ".json":
            data = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(data, list):
                graph = nx.from_dict_of_lists(dict(enumerate(data)), create_using=nx.DiGraph)
            else:  # "links" was networkx's name for edges before 3.4
                graph = nx.node_link_graph(data, edges="links" if "links" in data else "edges")
        else:
            kind = nx.DiGraph if self.directed else nx.Graph
            delimiter = "," if path.suffix == ".csv" else None
            graph = nx.read_edgelist(path, delimiter=delimiter, create_using=kind, data=False)
        if not graph.number_of_edges():
            raise ValueError("it has no edge.")
        return graph


def _number(node: Any) -> int:
    """Reads the number of a node exactly, so that 2.7 is not taken for 2."""
    if not str(node).strip().isdecimal():
        raise ValueError(f"it names a client {node!r}, not a whole number from 0.")
    return int(node)
