"""Communication graphs: who learns from whom."""

from lkd.federated.topology.base import Edges, Topology
from lkd.federated.topology.from_file import FromFile
from lkd.federated.topology.mixing_weights import metropolis_weights, spectral_gap
from lkd.federated.topology.path_lengths import hops, reach
from lkd.federated.topology.plot import draw, draw_rounds
from lkd.federated.topology.random_graphs import ErdosRenyi, RandomNeighbors, SmallWorld
from lkd.federated.topology.static import Chain, Complete, Grid, Hierarchical, Islands, Ring, Star
from lkd.federated.topology.time_varying import TimeVarying

__all__ = [
    "Chain",
    "Complete",
    "Edges",
    "ErdosRenyi",
    "FromFile",
    "Grid",
    "Hierarchical",
    "Islands",
    "RandomNeighbors",
    "Ring",
    "SmallWorld",
    "Star",
    "TimeVarying",
    "Topology",
    "draw",
    "draw_rounds",
    "hops",
    "metropolis_weights",
    "reach",
    "spectral_gap",
]
