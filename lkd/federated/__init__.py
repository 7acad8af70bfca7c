"""Federated learning: rounds over any LightningModule."""

from lkd.federated.adaptive import FedAdagrad, FedAdam, FedYogi
from lkd.federated.algorithms import (
    Algorithm,
    Centralized,
    FedAvg,
    FedLin,
    FedNova,
    FedNTD,
    FedProx,
    FedShuffle,
    FedShuffleMVR,
    Local,
    Mime,
    MimeLite,
    Moon,
    Scaffold,
)
from lkd.federated.attack import Attack
from lkd.federated.client import Client
from lkd.federated.federation import Federation
from lkd.federated.heterogeneity import Devices
from lkd.federated.rules import CoordinateMedian, GeometricMedian, Krum, NormClipping, Rule, TrimmedMean
from lkd.federated.work import LocalWork

__all__ = [
    "Algorithm",
    "Attack",
    "Centralized",
    "Client",
    "CoordinateMedian",
    "Devices",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedLin",
    "FedNTD",
    "FedNova",
    "FedProx",
    "FedShuffle",
    "FedShuffleMVR",
    "FedYogi",
    "Federation",
    "GeometricMedian",
    "Krum",
    "Local",
    "LocalWork",
    "Mime",
    "MimeLite",
    "Moon",
    "NormClipping",
    "Rule",
    "Scaffold",
    "TrimmedMean",
]
