"""One file an algorithm, its paper in the docstring."""

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.algorithms.baselines import Centralized, Local
from lkd.federated.algorithms.fedavg import FedAvg
from lkd.federated.algorithms.fedlin import FedLin
from lkd.federated.algorithms.fednova import FedNova
from lkd.federated.algorithms.fedntd import FedNTD
from lkd.federated.algorithms.fedprox import FedProx
from lkd.federated.algorithms.fedshuffle import FedShuffle, FedShuffleMVR
from lkd.federated.algorithms.mime import Mime, MimeLite
from lkd.federated.algorithms.moon import Moon
from lkd.federated.algorithms.scaffold import Scaffold

__all__ = [
    "Algorithm",
    "Centralized",
    "FedAvg",
    "FedLin",
    "FedNTD",
    "FedNova",
    "FedProx",
    "FedShuffle",
    "FedShuffleMVR",
    "Local",
    "Mime",
    "MimeLite",
    "Moon",
    "Scaffold",
]
