"""Clients whose architecture sees nothing of what they have are refused before anybody trains."""

import warnings

import pytest
from torch import nn

from lkd.datamodules import IID, FederatedDataModule, ModalityPlan
from lkd.federated import FedAvg, Federation
from lkd.modules import MultimodalClient

from ..datamodules.test_modality_plan import TYPES, Module, Motion
from ..modules.modalities import client
from .quadratic import loader, trainer
from .test_multimodal import BOTH, ONE
from .test_weighing import clients

GYRO = ("gyro",)


def fit(first, other, client_models):
    """The first and the last client have both sensors, the second acc alone."""
    federation = Federation(
        client(first), FedAvg(), other_models=[client(other)], client_models=client_models
    )
    everyone = clients()
    trainer(1).fit(federation, loader(everyone))
    return federation


def test_an_architecture_for_other_modalities_is_refused():
    with pytest.raises(
        ValueError,
        match=r"client client1 has samples with acc, .* \(other_models\[0\]\) sees, which are gyro: give",
    ):
        fit(BOTH, GYRO, [0, 1, 0])


def test_one_that_cannot_see_all_samples_is_refused():
    """It owns gyro, too, but in some samples only."""
    with pytest.raises(
        ValueError,
        match=r"client client0 has samples with acc, gyro, but some .* \(model\) sees, which are gyro",
    ):
        fit(GYRO, ONE, [0, 1, 0])


def test_all_clients_of_a_datamodule_are_looked_at_before_anything_is_set_up(monkeypatch):
    """The last of six has other sensors than the rest; in the first round it would not even take part."""
    plan = ModalityPlan(TYPES, assign=[1, 1, 1, 1, 1, 2])
    data = FederatedDataModule(Module(Motion(60)), IID(), clients=6, plan=plan, cohort=1)
    model = MultimodalClient({"acc": nn.Flatten()}, 4, {"acc": [3, 8]})
    algorithm = FedAvg()
    monkeypatch.setattr(algorithm, "setup", lambda x: pytest.fail("too late"))
    with pytest.raises(
        ValueError, match=r"client 5 has samples with rgb, tag, .* which are acc: give ModalityPlan"
    ):
        trainer(1).fit(Federation(model, algorithm), data)


def test_one_that_sees_less_than_a_client_has_is_allowed():
    everyone = clients(missing=(0.0, 0.0, 0.0))
    federation = Federation(client(GYRO), FedAvg(), other_models=[client(ONE)], client_models=[0, 1, 0])
    trainer(1).fit(federation, loader(everyone))
    assert not [record.error for record in federation.records if record.error]


@pytest.mark.parametrize(
    ("types", "encoders", "told"),
    [
        ([["acc"]], ["acc", "rgb"], True),
        ([["acc"], ["rgb"]], ["acc", "rgb"], False),
        ([["acc"]], ["acc"], False),
    ],
)
def test_a_modality_that_no_client_has_is_said(types, encoders, told):
    data = FederatedDataModule(Module(Motion(60)), IID(), clients=2, plan=ModalityPlan(types))
    shapes = {"acc": [3, 8], "rgb": [3, 6, 6]}
    model = MultimodalClient({m: nn.Flatten() for m in encoders}, 4, {m: shapes[m] for m in encoders})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer(1, limit_val_batches=0).fit(Federation(model, FedAvg()), data)
    found = [str(w.message) for w in said if "no client has samples with rgb" in str(w.message)]
    assert len(found) == told
