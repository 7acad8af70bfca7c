"""What a new user may give to a federation by mistake: a sentence each, before anybody trains."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import (
    SCAFFOLD,
    Algorithm,
    CoordinateMedian,
    FedAvg,
    Federation,
    FedLin,
    FedNova,
    FedShuffle,
    Krum,
    Local,
    MetaStopping,
    Mime,
    NormClipping,
    Ring,
    SystemHeterogeneity,
    TwoHeads,
)
from lkd.federated.server.round import TooFewClientsError
from lkd.modules import Classifier

from .job import Blobs
from .peers.private import two_heads_module
from .quadratic import Point, Quadratic, loader, run, trainer, two_clients
from .test_rounds import Noisy, Samples, samples


class Idle(Point):
    """A client that must not train."""

    def train_batches(self, seed):
        raise AssertionError("it trained")

    ordered_batches = train_batches


def idle(number=10):
    return [Idle(i, [(1, 1.0)], number) for i in range(number)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_clients": 11}, "min_clients=11, but the cohort has 10 clients"),
        ({"algorithm": FedShuffle(), "aggregator": CoordinateMedian()}, "use FedAvg or FedProx with it"),
        ({"algorithm": FedNova(), "aggregator": CoordinateMedian()}, "use FedAvg or FedProx with it"),
        ({"algorithm": SCAFFOLD(), "aggregator": CoordinateMedian()}, "use FedAvg or FedProx with it"),
        ({"algorithm": Mime(), "aggregator": CoordinateMedian()}, "use FedAvg or FedProx with it"),
        ({"algorithm": FedLin(), "size": 3}, "FedLin needs all 10 clients in every round, not 3"),
        (
            {"aggregator": Krum(byzantine=5)},
            "Krum as it is set needs at least 13 clients .* 10 take part in round 0",
        ),
        ({"aggregator": NormClipping(rule=Krum(byzantine=1, keep=10))}, "needs at least 11 clients"),
    ],
)
def test_refused_before_a_client_trains(arguments, message):
    algorithm = arguments.pop("algorithm", FedAvg())
    with pytest.raises(ValueError, match=message):
        run(algorithm, 1, idle(), **arguments)


def test_who_could_not_be_reached_is_no_failure():
    clients = [Point(i, [(1, 1.0)], 4) for i in range(4)]
    with pytest.raises(TooFewClientsError, match=r"\(no more could be reached\)"):
        run(
            FedAvg(),
            1,
            clients,
            heterogeneity=SystemHeterogeneity(availability=0.5, dropout=0.3, seed=3),
            min_clients=4,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "FedAvg"}, r"algorithm='FedAvg' must be an object of Algorithm, such as FedAvg\(\)"),
        ({"algorithm": SCAFFOLD}, "algorithm=SCAFFOLD must be an object"),
        ({"local": 3}, "local=3 must be an object of LocalTraining"),
        ({"aggregator": "krum"}, "aggregator='krum' must be an object of Rule"),
    ],
)
def test_names_and_classes_in_place_of_objects(arguments, message):
    with pytest.raises(TypeError, match=message):
        Federation(Quadratic(), **arguments)


def test_the_default_algorithm_is_fedavg():
    assert type(Federation(Quadratic()).algorithm) is FedAvg


def test_one_personal_pattern_may_be_a_string():
    federation = Federation(Noisy(), personal_layers="net.4")
    trainer(1).fit(federation, loader(samples()))
    assert federation.personal_layers == ["net.4"] and "net.4.weight" not in federation.x


def test_batches_in_place_of_cohorts_and_the_other_way_round():
    with pytest.raises(ValueError, match=r"wrap your data in FederatedDataModule\(data, partition\)"):
        trainer(1).fit(Federation(Noisy()), datamodule=Blobs())
    with pytest.raises(ValueError, match=r"cohort of clients.* wrap the module in Federation"):
        trainer(1).fit(Classifier(nn.Linear(3, 2), 2), loader(samples()))


@pytest.mark.parametrize("given", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_what_a_trainer_does_by_itself_is_a_clients_work(given):
    (name,) = given
    federation = Federation(Quadratic())
    with pytest.raises(ValueError, match=rf"use LocalTraining\({name}="):
        trainer(1, **given).fit(federation, loader(two_clients()))


@pytest.mark.parametrize("batches", [1, 0.5])
def test_rounds_cannot_be_overfitted(batches):
    with pytest.raises(ValueError, match=rf"Trainer\(overfit_batches={batches}\) .* leave it out"):
        trainer(1, overfit_batches=batches).fit(Federation(Quadratic()), loader(two_clients()))


class NoOptimizer(Quadratic):
    def configure_optimizers(self):
        return None


def test_a_client_without_optimizer():
    with pytest.raises(ValueError, match=r"NoOptimizer\.configure_optimizers returns None"):
        run(FedAvg(), 1, module=NoOptimizer())


def test_everything_personal_is_warned_of_and_local_is_not():
    with pytest.warns(
        UserWarning, match="keeps every layer that trains with its client, so nothing is shared"
    ):
        run(FedAvg(), 1, personal_layers="x")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*nothing is shared")
        run(Local(), 1)


class NoSuper(Algorithm):
    def __init__(self):
        pass


def test_an_algorithm_that_forgets_super():
    with pytest.raises(TypeError, match=r"NoSuper.__init__ must call super\(\).__init__\(\)"):
        Federation(Quadratic(), NoSuper())


class Own(Algorithm):
    """Returns and keeps what it is told to."""

    def __init__(self, finish=None, own=None, result=lambda server: server.mean(server.train())["delta"]):
        super().__init__()
        self.given, self.kept, self.result = finish, own, result

    def finish(self, context):
        if self.kept is not None:
            context.state["n"] = self.kept
        return self.given

    def round(self, server):
        return self.result(server)


def test_finish_may_return_nothing():
    assert run(Own(), 2).model.x.item() == pytest.approx(run(FedAvg(), 2).model.x.item())


@pytest.mark.parametrize(
    ("algorithm", "error", "message"),
    [
        (
            Own([1]),
            TooFewClientsError,
            "what Own.finish returns is a list; it must be a dict of lists of tensors",
        ),
        (Own({"c": torch.zeros(1)}), TooFewClientsError, "Own.finish returns has a Tensor as 'c'"),
        (Own({"c": []}), TooFewClientsError, "Own.finish returns has 0 tensors as 'c', not 1"),
        (Own({"c": [torch.zeros(7)]}), TooFewClientsError, "has other shapes in 'c' than context.params"),
        (Own(own=3), TooFewClientsError, "context.state of Own has a int as 'n'"),
        (Own(result=lambda s: None), ValueError, "Own.round returned NoneType, not the change"),
        (
            Own(result=lambda s: s.mean(s.train())),
            ValueError,
            r"Own.round returned a dict of \['delta', 'metrics'\]",
        ),
        (
            Own(result=lambda s: s.mean(s.train())["extra"]),
            KeyError,
            "'extra' was not averaged.*mean\\(replies",
        ),
        (
            Own(result=lambda s: s.mean(s.train(), "extra")["extra"]),
            ValueError,
            "no group 'extra', only 'delta'",
        ),
    ],
)
def test_own_algorithms_are_told_what_they_return_wrongly(algorithm, error, message):
    with pytest.raises(error, match=message):
        run(algorithm, 1)


@pytest.mark.parametrize(
    ("ids", "populations"), [((0, 0), (2, 2)), ((0, 2), (2, 2)), ((0, 1), (2, 3)), ((-1, 1), (2, 2))]
)
def test_clients_whose_ids_are_not_their_own(ids, populations):
    clients = [Samples(i, 8, n) for i, n in zip(ids, populations, strict=True)]
    with pytest.raises(ValueError, match=r"every client needs an id of its own, from 0 to"):
        trainer(1).fit(Federation(Noisy()), loader(clients))


def test_a_client_without_validation_data_is_found_whenever_it_takes_part(monkeypatch):
    """Client 2 of three has one sample, of which none is for validation, and takes no part in the first rounds."""
    data = FederatedDataModule(Blobs(), Last(), cohort=1, client_fractions=(0.7, 0.3, 0.0))
    algorithm = TwoHeads(Ring(), warmup=9, stopping=MetaStopping())
    monkeypatch.setattr(algorithm, "setup", lambda x: pytest.fail("too late"))
    with pytest.raises(ValueError, match="needs validation data at every client, and client 2 has none"):
        trainer(1).fit(Federation(two_heads_module(), algorithm), datamodule=data)


class Last(IID):
    """A single sample for the last of three clients."""

    def __call__(self, columns, size, clients, rng):
        return [np.arange(60), np.arange(60, size - 1), np.arange(size - 1, size)]
