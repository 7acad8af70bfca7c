"""Federations by names, for sites, which make them from a description."""

import json

from lightning.pytorch import LightningModule

from lkd.federated import Federation
from tests.federated.job import KINDS

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
    """One of `KINDS`."""
    made: Federation = KINDS[kind]()
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
