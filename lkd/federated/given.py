"""Checks of the objects that a user gives to a federation."""

from typing import Any

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.codecs.base import Codec
from lkd.federated.engines import Engine
from lkd.federated.server.attack import Attack
from lkd.federated.server.heterogeneity import SystemHeterogeneity
from lkd.federated.server.local_work import LocalTraining
from lkd.federated.server.robust import Rule
from lkd.shown import shown


def check_parts(
    algorithm: Any,
    local: Any,
    aggregator: Any,
    heterogeneity: Any,
    attack: Any,
    engine: Any,
    codec: Any,
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
