"""Federated learning: rounds over any LightningModule."""

from typing import TYPE_CHECKING

from lkd.checkpoints import load_client
from lkd.federated.algorithms.base import Algorithm, require_sgd, stackable
from lkd.federated.algorithms.baselines import Centralized, Local
from lkd.federated.algorithms.fedavg import FedAvg
from lkd.federated.algorithms.fedlin import FedLin
from lkd.federated.algorithms.fednova import FedNova
from lkd.federated.algorithms.fedntd import FedNTD
from lkd.federated.algorithms.fedprox import FedProx
from lkd.federated.algorithms.fedshuffle import FedShuffle, FedShuffleMVR
from lkd.federated.algorithms.mime import Mime, MimeLite
from lkd.federated.algorithms.moon import MOON
from lkd.federated.algorithms.scaffold import SCAFFOLD
from lkd.federated.client.context import ClientContext
from lkd.federated.codecs.base import Codec
from lkd.federated.codecs.deflate import Deflate
from lkd.federated.codecs.half import Half
from lkd.federated.codecs.int8 import Int8
from lkd.federated.codecs.low_rank import LowRank
from lkd.federated.codecs.top_k import TopK
from lkd.federated.federation import Federation
from lkd.federated.knowledge.box_exchange import BoxExchange
from lkd.federated.knowledge.common.public_logits import PublicExchange
from lkd.federated.knowledge.creamfl import CreamFL
from lkd.federated.knowledge.cronus import Cronus
from lkd.federated.knowledge.dsfl import DSFL
from lkd.federated.knowledge.fccl import FCCL
from lkd.federated.knowledge.fd import FD
from lkd.federated.knowledge.fedcache import FedCache
from lkd.federated.knowledge.feddf import FedDF
from lkd.federated.knowledge.feddf_boxes import FedDFBoxes
from lkd.federated.knowledge.fedet import FedET
from lkd.federated.knowledge.fedgen import FedGen
from lkd.federated.knowledge.fedgkt import FedGKT
from lkd.federated.knowledge.fedkd import FedKD
from lkd.federated.knowledge.fedmd import FedMD
from lkd.federated.knowledge.fedproto import FedProto
from lkd.federated.knowledge.fml import FML
from lkd.federated.knowledge.ktpfl import KTpFL
from lkd.federated.knowledge.modal_prototypes import ModalPrototypes
from lkd.federated.knowledge.scarlet import SCARLET
from lkd.federated.knowledge.server_teacher import ServerTeacher
from lkd.federated.peers.decentralized_sgd import DecentralizedSGD
from lkd.federated.peers.meta_stopping import MetaStopping
from lkd.federated.peers.mhd import MHD
from lkd.federated.peers.two_heads import TwoHeads
from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.protocol.client_data import ClientData, PublicSamples
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.server.aggregation import ClientReply
from lkd.federated.server.attack import Attack
from lkd.federated.server.fedopt import FedAdagrad, FedAdam, FedYogi
from lkd.federated.server.heterogeneity import SystemHeterogeneity
from lkd.federated.server.local_work import LocalTraining
from lkd.federated.server.robust import (
    Bucketing,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    NearestNeighborMixing,
    NormClipping,
    Rule,
    TrimmedMean,
)
from lkd.federated.server.round import ServerRound
from lkd.federated.topology import (
    Chain,
    Complete,
    ErdosRenyi,
    FromFile,
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
from lkd.former_names import former_classes

__all__ = [
    "DSFL",
    "FCCL",
    "FD",
    "FML",
    "MHD",
    "MOON",
    "SCAFFOLD",
    "SCARLET",
    "Algorithm",
    "Attack",
    "BoxExchange",
    "Bucketing",
    "Centralized",
    "Chain",
    "ClientContext",
    "ClientDP",
    "ClientData",
    "ClientReply",
    "Codec",
    "Complete",
    "CoordinateMedian",
    "CreamFL",
    "Cronus",
    "DecentralizedSGD",
    "Deflate",
    "ErdosRenyi",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedCache",
    "FedDF",
    "FedDFBoxes",
    "FedET",
    "FedGKT",
    "FedGen",
    "FedKD",
    "FedLin",
    "FedMD",
    "FedNTD",
    "FedNova",
    "FedProto",
    "FedProx",
    "FedShuffle",
    "FedShuffleMVR",
    "FedYogi",
    "Federation",
    "FromFile",
    "GeometricMedian",
    "Grid",
    "Half",
    "Hierarchical",
    "Int8",
    "Islands",
    "KTpFL",
    "Krum",
    "Local",
    "LocalTraining",
    "LowRank",
    "Message",
    "MetaStopping",
    "Mime",
    "MimeLite",
    "ModalPrototypes",
    "NearestNeighborMixing",
    "NormClipping",
    "PublicExchange",
    "PublicSamples",
    "RandomNeighbors",
    "Reply",
    "Ring",
    "Rule",
    "ServerRound",
    "ServerTeacher",
    "SmallWorld",
    "Star",
    "SystemHeterogeneity",
    "TimeVarying",
    "TopK",
    "Topology",
    "TrimmedMean",
    "TwoHeads",
    "load_client",
    "require_sgd",
    "stackable",
]

if not TYPE_CHECKING:  # a type checker shall go on telling what there is not
    __getattr__ = former_classes(
        globals(),
        Client="ClientData",
        DPSGD="DecentralizedSGD",
        Devices="SystemHeterogeneity",
        LocalWork="LocalTraining",
        Moon="MOON",
        Public="PublicSamples",
        RandomNeighbours="RandomNeighbors",
        Scaffold="SCAFFOLD",
    )
