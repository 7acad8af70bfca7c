"""Federations by names, for sites, which make them from a description."""

import json

from lightning.pytorch import LightningDataModule, LightningModule

import lkd.federated
from lkd.federated import BoxExchange, FedDFBoxes, Federation, LocalTraining
from tests.federated.engines.clients import Two, Wrong, clients
from tests.federated.job import KINDS, PUBLIC, SENSORS
from tests.federated.knowledge.test_box_exchange import OneBox
from tests.federated.quadratic import Clients, Quadratic

DATA = {
    "class_path": "lkd.datamodules.FederatedDataModule",
    "init_args": {
        "data": {"class_path": "tests.federated.job.Blobs"},
        "partition": {"class_path": "lkd.datamodules.Dirichlet", "init_args": {"alpha": 1.0}},
        "clients": 5,
        "cohort": 3,
        "seed": 4,
    },
}


def federation(kind: str, seed: int = 0) -> LightningModule:
    """One of `KINDS`, or of those that are beside them in test_same_bits.py."""
    from tests.federated.engines.test_same_bits import MORE

    made: Federation = {**KINDS, **MORE}[kind]()
    made.seed = seed
    return made


def plan(kind, data=DATA, public=0.0, **more):
    """The description of a run of `tests.federated.job.run`."""
    data = json.loads(json.dumps(data))
    data["init_args"]["public"] = public
    model = {
        "class_path": "tests.federated.engines.described.federation",
        "init_args": {"kind": kind, **more},
    }
    return {"model": model, "data": data, "callbacks": []}


def data_of(kind):
    """The data of a run of `tests.federated.job.run`."""
    data = json.loads(json.dumps(DATA))
    given = data["init_args"]
    given["public"] = 0.2 if kind in PUBLIC else 0.0
    if kind in SENSORS:
        given["data"]["class_path"] = "tests.federated.job.Worn"
    if kind == "two_heads":
        given["client_fractions"] = [0.7, 0.3, 0.0]
    return data


class Points(LightningDataModule):
    """The clients of the contract, one at each whole number from 0 on."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = Clients(clients())

    def setup(self, stage: str | None = None) -> None:
        """Nothing to do."""


def small(
    how: str | None = None, algorithm: str = "FedAvg", two: bool = False, timeout: float | None = None
) -> LightningModule:
    """A federation of the contract."""
    more = {"other_models": [Two()], "client_models": [0, 1, 0, 1]} if two else {}
    model = Quadratic() if how is None else Wrong(how)
    kind = getattr(lkd.federated, algorithm)()
    return Federation(model, kind, LocalTraining(epochs=1), client_timeout=timeout, **more)


def boxes(algorithm: str) -> LightningModule:
    """Detectors of two families that exchange boxes."""
    exchange = BoxExchange(score_threshold=0.5, iou_threshold=0.1)
    kind = exchange if algorithm == "box_exchange" else FedDFBoxes(score_threshold=0.5)
    return Federation(OneBox(0.2), kind, LocalTraining(steps=1), other_models=[OneBox(0.4, extra=1)])


def made_by(function, data, **args):
    """The description of a federation that a function of this file makes."""
    model = {"class_path": f"tests.federated.engines.described.{function.__name__}", "init_args": args}
    return {"model": model, "data": data, "callbacks": []}


POINTS = {"class_path": "tests.federated.engines.described.Points", "init_args": {}}
BOXES = {
    "class_path": "lkd.datamodules.FederatedDataModule",
    "init_args": {
        "data": {"class_path": "tests.federated.knowledge.test_box_exchange.Data"},
        "partition": {"class_path": "lkd.datamodules.IID"},
        "clients": 3,
        "public": 0.2,
    },
}


def describe(engine, model, algorithm, timeout=None, two=False):
    """Tells an engine of other machines about a federation of the contract; any other needs no description."""
    engine = getattr(engine, "_engine", engine)
    if hasattr(engine, "description"):
        how = model.how if isinstance(model, Wrong) else None
        args = {"how": how, "algorithm": type(algorithm).__name__, "two": two, "timeout": timeout}
        engine.description = made_by(small, POINTS, **args)
