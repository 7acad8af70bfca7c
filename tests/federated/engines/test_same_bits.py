"""Whatever an algorithm does, clients in processes of their own do it to the same bits as in this one."""

import pytest
import torch

from lkd.callbacks import FeatureDistillation, LogitDistillation, TemperatureSchedule, WeightRamp
from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import (
    MOON,
    BoxExchange,
    Centralized,
    FedAvg,
    FedDFBoxes,
    Federation,
    FedNova,
    FedNTD,
    FedProx,
    FedShuffle,
    Local,
    LocalTraining,
    MimeLite,
)
from lkd.federated.engines import Loop, Processes
from lkd.modules import Classifier
from lkd.teachers import Teacher

from ..job import KINDS, run
from ..knowledge.test_box_exchange import Data, OneBox
from ..knowledge.two_models import net
from ..quadratic import trainer
from ..test_exact import assert_same, flat, result
from ..test_rounds import Noisy

MORE = {
    "fedprox": lambda: Federation(Noisy(), FedProx(mu=0.1), LocalTraining(steps=2)),
    "fednova": lambda: Federation(Noisy(momentum=0.9), FedNova(), LocalTraining(epochs=(1, 2))),
    "fedntd": lambda: Federation(
        Classifier(net(1, classes=3, noisy=True), 3), FedNTD(), LocalTraining(steps=2)
    ),
    "moon": lambda: Federation(Classifier(net(1, noisy=True), 2), MOON("network.2"), LocalTraining(steps=2)),
    "mimelite": lambda: Federation(Noisy(), MimeLite(), LocalTraining(steps=2)),
    "fedshuffle": lambda: Federation(Noisy(), FedShuffle(), LocalTraining(epochs=1)),
    "centralized": lambda: Federation(Noisy(), Centralized(), LocalTraining(epochs=1)),
    "local": lambda: Federation(Noisy(), Local(), LocalTraining(epochs=1)),
}


@pytest.fixture(scope="module")
def elsewhere():
    """Two processes, for all tests of this file: to begin one takes seconds."""
    engine = Processes(workers=2, keep=True)
    yield engine
    engine.keep_processes = False
    engine.close()


@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_same_bits(kind, tmp_path, elsewhere):
    """Weights, the server's state, and what every client keeps, after three rounds of three of five clients."""
    run(kind, tmp_path / "here", 3, make=MORE.get(kind))
    run(kind, tmp_path / "there", 3, make=MORE.get(kind), engine=elsewhere)
    assert_same(result(tmp_path / "here"), result(tmp_path / "there"))


@pytest.mark.parametrize("kind", ["scaffold", "mvr", "fedbn", "fedmd"])
@pytest.mark.parametrize("first", ["here", "there"])
def test_a_run_goes_on_with_the_other_engine(kind, first, tmp_path, elsewhere):
    run(kind, tmp_path / "whole", 4)
    run(kind, tmp_path / "parts", 2, engine=elsewhere if first == "there" else None)
    run(kind, tmp_path / "parts", 4, engine=elsewhere if first == "here" else None)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))


@pytest.mark.parametrize(
    "make",
    [lambda: BoxExchange(score_threshold=0.5, iou_threshold=0.1), lambda: FedDFBoxes(score_threshold=0.5)],
    ids=["box_exchange", "feddf_boxes"],
)
def test_detectors_that_exchange_boxes(make, elsewhere):
    found = []
    for engine in (Loop(), elsewhere):
        federation = Federation(
            OneBox(0.2), make(), LocalTraining(steps=1), other_models=[OneBox(0.4, extra=1)], engine=engine
        )
        shards = FederatedDataModule(Data(), IID(), clients=3, public=0.2)
        trainer(2, limit_val_batches=0).fit(federation, shards)
        found.append({"weights": federation.state_dict(), "kept": engine.state_dict()["clients"]})
    assert_same(*found)


def distilling():
    """A teacher in common, an adapter of each client's own, and both schedules."""
    teacher = Teacher(net(5, 9))
    return [
        LogitDistillation(teacher, alpha=0.5),
        FeatureDistillation(Teacher(net(5, 9)), {"network.2": "2"}, weight=0.1),
        TemperatureSchedule(start=6.0, end=1.0),
        WeightRamp(epochs=2),
    ]


def test_distillation_is_attached_where_the_clients_are(tmp_path, elsewhere):
    def make():
        return Federation(Classifier(net(1, noisy=True), 2), FedAvg(), LocalTraining(steps=2))

    for folder, engine in (("here", None), ("there", elsewhere)):
        run("distilled", tmp_path / folder, 3, callbacks=distilling(), engine=engine, make=make)
    here, there = result(tmp_path / "here"), result(tmp_path / "there")
    assert_same(here, there)
    assert any("distillation_adapters" in n for n in here["kept"][min(here["kept"])]["personal"])
    plain = run("plain", tmp_path / "plain", 3, make=make)
    assert not torch.equal(flat(here["weights"])[0], flat(plain.state_dict())[0])
