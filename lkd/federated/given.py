"""Checks of the objects that a user gives to a federation."""

from typing import Any

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.codecs.base import Codec
from lkd.federated.engines import Engine
from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.attack import Attack
from lkd.federated.server.heterogeneity import SystemHeterogeneity
from lkd.federated.server.local_work import LocalTraining
from lkd.federated.server.robust import Rule
from lkd.shown import shown

FORMER = {
    "client": "model",
    "others": "other_models",
    "assign": "client_models",
    "common": "shared_layers",
    "personal": "personal_layers",
    "work": "local",
    "robust": "aggregator",
    "devices": "heterogeneity",
}
"""Former names of a federation's arguments."""


def check_parts(
    algorithm: Any,
    local: Any,
    aggregator: Any,
    heterogeneity: Any,
    attack: Any,
    engine: Any,
    codec: Any,
    privacy: Any,
) -> None:
    """Refuses a name or a class in place of an object.

    Raises:
        TypeError: If there is one; the message says what to give instead.
    """
    for name, value, kind, example in (
        ("algorithm", algorithm, Algorithm, "FedAvg()"),
        ("local", local, LocalTraining, "LocalTraining(epochs=1)"),
        ("aggregator", aggregator, Rule, "CoordinateMedian()"),
        ("heterogeneity", heterogeneity, SystemHeterogeneity, "SystemHeterogeneity(dropout=0.1)"),
        ("attack", attack, Attack, "Attack(...)"),
        ("engine", engine, Engine, "Loop()"),
        ("codec", codec, Codec, "Int8()"),
        ("privacy", privacy, ClientDP, "ClientDP(clip=1.0, noise_multiplier=1.0, delta=1e-5)"),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}={shown(value)} must be an object of {kind.__name__}, such as {example}.")
    if algorithm is not None and not (hasattr(algorithm, "weighting") and hasattr(algorithm, "state")):
        who = type(algorithm).__name__
        raise TypeError(f"{who}.__init__ must call super().__init__(), which sets `weighting` and `state`.")


def check_codec(codec: Codec | None, algorithm: Algorithm) -> None:
    """Refuses a codec where no changes of weights travel.

    Raises:
        ValueError: If the algorithm sends none.
    """
    if codec is not None and not algorithm.aggregates_weights:
        who = type(algorithm).__name__
        raise ValueError(
            f"codec={codec!r}: {who} sends no changes of weights, which are what a codec encodes; leave codec out."
        )


def check_privacy(
    privacy: ClientDP | None, algorithm: Algorithm, aggregator: Rule | None, other_models: int
) -> None:
    """Refuses what client-level differential privacy cannot cover.

    Raises:
        ValueError: If more than one change of the weights leaves a client, or it does not count as all others.
    """
    if privacy is None:
        return
    who, of = type(algorithm).__name__, f"privacy={type(privacy).__name__}"
    if not vars(type(algorithm)).get("sends_one_change", False):
        raise ValueError(
            f"{of} protects one change of the weights, and {who} lets more leave the clients, or does not say that it does not "
            "(sends_one_change = True): use FedAvg, FedProx, FedNTD or MOON, with any server_optimizer."
        )
    if algorithm.weighting != "uniform":
        raise ValueError(
            f"{of}: weighting={algorithm.weighting!r} would let a client with many samples change the mean by more than the noise is for: "
            f"{who}(weighting='uniform')."
        )
    if aggregator is not None:
        raise ValueError(
            f"{of} with aggregator={type(aggregator).__name__}: what one client can change of a robust rule's result is not known, so no noise "
            "is enough; leave out one of them."
        )
    if other_models:
        raise ValueError(
            f"{of} with other_models: means over the clients that have a layer have no fixed number of clients; give all clients one model."
        )


def check_statistics(privacy: ClientDP | None, buffers: Tensors) -> None:
    """Refuses batch statistics that would leave the clients beside what is clipped.

    Raises:
        ValueError: If there are any; the message names the first.
    """
    if privacy is not None and buffers:
        raise ValueError(
            f"privacy={type(privacy).__name__} protects weights, and {next(iter(buffers))} is a statistic of the clients' data that would leave "
            "them as it is (noise would make variances negative): use GroupNorm in its place, or keep it at the clients, "
            "personal_layers=['batchnorm']."
        )
