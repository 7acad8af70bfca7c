"""Several architectures in one federation: who is averaged with whom, on quadratics in closed form."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader

from lkd.federated import CoordinateMedian, FedAvg, Federation, FedNova, FedProx, Local, LocalTraining

from .quadratic import Point, loader, run, trainer
from .test_rounds import Noisy, samples

LR = 0.05


class Layers(LightningModule):
    """f = mean over rows (h, e) of h/2 sum over layers ||layer - e||^2; the layers have names."""

    def __init__(self, **starts):
        super().__init__()
        self.starts = starts
        for name, start in starts.items():
            setattr(self, name, nn.Parameter(torch.tensor([start], dtype=torch.float64)))

    def training_step(self, batch, batch_idx):
        h, e = batch
        return sum((0.5 * h * (getattr(self, name) - e).square().sum(1)).mean() for name in self.starts)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=LR)


def clients():
    """h, e and numbers of samples that differ."""
    return [
        Point(0, [(1, 0.0)] * 2, 4),
        Point(1, [(4, 1.0)], 4),
        Point(2, [(2, 3.0)] * 3, 4),
        Point(3, [(3, -1.0)] * 5, 4),
    ]


def went(federation):
    """All layers at the server, by architecture."""
    modules = [federation.model, *federation.other_models]
    return [{n: p.item() for n, p in m.named_parameters()} for m in modules]


def by_hand(rounds, starts, common, assign, cohorts=None, momentum=0.0, steps=1):
    """The server's layers after rounds of FedAvg, as a dict (architecture or None if common, name) -> value."""
    x = {
        (None if n in common else k, n): v for k, s in reversed(list(enumerate(starts))) for n, v in s.items()
    }
    velocity = dict.fromkeys(x, 0.0)
    for r in range(rounds):
        changes = {key: [] for key in x}
        for client in clients() if cohorts is None else [clients()[i] for i in cohorts[r]]:
            kind, h, e = assign[client.id], float(client.h[0]), float(client.e[0])
            for name in starts[kind]:
                key = (None if name in common else kind, name)
                y = x[key]
                for _ in range(steps):
                    y -= LR * h * (y - e)
                changes[key].append((client.num_samples, y - x[key]))
        for key, mine in changes.items():
            if mine:
                velocity[key] = momentum * velocity[key] + sum(n * d for n, d in mine) / sum(
                    n for n, _ in mine
                )
                x[key] += velocity[key]
    return x


def assert_went(federation, expected, common=()):
    for kind, layers in enumerate(went(federation)):
        for name, value in layers.items():
            assert value == pytest.approx(expected[None if name in common else kind, name], abs=1e-12), name


STARTS = ({"trunk": 0.0, "a": 0.5}, {"trunk": 7.0, "b": -0.5, "c": 0.25})


@pytest.mark.parametrize("assign", [[0, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0]])
@pytest.mark.parametrize("common", [[], ["trunk"]])
def test_a_layer_is_averaged_over_the_clients_that_have_it(assign, common):
    """A common layer begins as the first architecture has it, and is averaged over all clients."""
    federation = run(
        FedAvg(),
        3,
        clients(),
        LocalTraining(epochs=4),
        Layers(**STARTS[0]),
        other_models=[Layers(**STARTS[1])],
        client_models=assign,
        shared_layers=common,
    )
    expected = by_hand(3, STARTS, common, assign, steps=4)
    assert_went(federation, expected, common)
    trunks = {layers["trunk"] for layers in went(federation)}
    assert len(trunks) == (1 if common else 2)


def test_clients_have_the_architectures_in_turns_unless_told():
    federation = run(FedAvg(), 2, clients(), module=Layers(**STARTS[0]), other_models=[Layers(**STARTS[1])])
    assert_went(federation, by_hand(2, STARTS, [], [0, 1, 0, 1]))


def test_a_layer_of_two_of_three_architectures():
    starts = ({"trunk": 0.0, "a": 0.5}, {"trunk": 1.0, "b": 2.0}, {"d": 3.0})
    modules = [Layers(**s) for s in starts]
    federation = run(
        FedProx(mu=0.0),
        3,
        clients(),
        module=modules[0],
        other_models=modules[1:],
        client_models=[0, 1, 2, 1],
        shared_layers=["trunk"],
    )
    assert_went(federation, by_hand(3, starts, ["trunk"], [0, 1, 2, 1]), ["trunk"])


def momentum(params):
    return torch.optim.SGD(params, lr=1.0, momentum=0.5)


@pytest.mark.parametrize("common", [[], ["trunk"]])
def test_an_architecture_without_a_client_in_the_round_stays_whatever_the_servers_momentum(common):
    cohorts = [[0, 1], [2], [0, 2], [1, 3], [3]]
    federation = Federation(
        Layers(**STARTS[0]),
        FedAvg(),
        server_optimizer=momentum,
        other_models=[Layers(**STARTS[1])],
        shared_layers=common,
    )
    data = DataLoader(
        [[clients()[i] for i in who] for who in cohorts], batch_size=None, collate_fn=lambda cohort: cohort
    )
    trainer(1).fit(federation, data)
    expected = by_hand(5, STARTS, common, [0, 1, 0, 1], cohorts, momentum=0.5)
    assert_went(federation, expected, common)


def test_mixed_is_each_by_itself_bit_for_bit_statistics_too():
    """Nothing of one architecture reaches the other: dropout, draws of the user's, batch statistics, schedules."""

    def module(lr):
        torch.manual_seed(3)
        return Noisy(lr=lr)

    def federate(chosen, first, **kwargs):
        federation = Federation(first, FedAvg(), LocalTraining(epochs=2), **kwargs)
        trainer(1).fit(federation, loader([samples()[i] for i in chosen], per_epoch=3))
        return federation

    mixed = federate([0, 1, 2], module(0.1), other_models=[module(0.2)])
    for ours, alone in (
        (mixed.model, federate([0, 2], module(0.1))),
        (mixed.other_models[0], federate([1], module(0.2))),
    ):
        for (name, a), b in zip(ours.state_dict().items(), alone.model.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


def test_each_client_is_measured_and_shown_with_its_own_architecture():
    federation = run(Local(), 1, clients(), module=Layers(**STARTS[0]), other_models=[Layers(**STARTS[1])])
    seen = {
        client.id: {n: p.item() for n, p in m.named_parameters()}
        for client, m in federation.models(clients())
    }
    for client in clients():
        start = STARTS[client.id % 2]
        h, e = float(client.h[0]), float(client.e[0])
        assert seen[client.id] == pytest.approx(
            {n: v - LR * h * (v - e) for n, v in start.items()}, abs=1e-12
        )


def frozen():
    module = Layers(**STARTS[0])
    module.trunk.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Federation(Layers(a=0.0), FedNova(), other_models=[Layers(b=0.0)]), "other_models: FedNova is for clients of one"),
        (lambda: Federation(Layers(a=0.0), aggregator=CoordinateMedian(), other_models=[Layers(b=0.0)]), "aggregator=CoordinateMedian"),
        (lambda: Federation(Layers(a=0.0), Local(), aggregator=CoordinateMedian()), "joins weights, and Local shares none"),
        (lambda: run(FedAvg(), 1, clients(), module=Layers(a=0.0), other_models=[Layers(b=0.0)], client_models=[0, 1]),
         "client_models has 2 entries, but there are 4 clients"),
        (lambda: run(FedAvg(), 1, clients(), module=Layers(a=0.0), other_models=[Layers(b=0.0)], client_models=[0, 1, 0, 1, 0]),
         "client_models has 5 entries, but there are 4 clients"),
        (lambda: run(FedAvg(), 1, clients(), module=Layers(a=0.0), other_models=[Layers(b=0.0)], client_models=[0, 1, 2, 0]),
         r"client_models=\[0, 1, 2, 0\] must give each client an architecture from 0"),
        (lambda: run(FedAvg(), 1, clients(), module=Layers(a=0.0), other_models=[Layers(b=0.0)], shared_layers=["b"]),
         r"shared_layers=\['b'\]: b of other_models\[0\], of shape \(1,\), is not shared there"),
        (lambda: run(FedAvg(), 1, clients(), module=Layers(a=0.0), other_models=[Layers(b=0.0)], shared_layers=["a"]),
         "names no shared layer of other_models"),
        (lambda: run(FedAvg(), 1, clients(), module=frozen(), other_models=[Layers(**STARTS[1])], shared_layers=["trunk"]),
         "train in all or in none"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_two_architectures_are_two_modules():
    """One given twice would train its weights twice."""
    module = Layers(w=0.0)
    with pytest.raises(ValueError, match=r"other_models\[0\] has weights of model itself"):
        Federation(module, other_models=[module])
    other = Layers(v=0.0)
    with pytest.raises(ValueError, match=r"other_models\[1\] has weights of other_models\[0\] itself"):
        Federation(module, other_models=[other, other])


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"model=Linear.* must be a LightningModule"):
        Federation(nn.Linear(1, 1))
    with pytest.raises(TypeError, match=r"other_models=Layers\(...\) must be a list"):
        Federation(Layers(w=0.0), other_models=Layers(w=0.0))


def test_a_test_of_weights_that_nobody_trained_says_so():
    with pytest.warns(UserWarning, match="Local trains no model at the server"):
        Federation(Layers(w=0.0), Local()).on_test_start()


def test_personal_layers_are_named_where_the_servers_model_is_tested():
    with pytest.warns(
        UserWarning, match=r"the server's model has the start in v, which train at the clients alone"
    ):
        Federation(Layers(w=0.0, v=0.0), FedAvg(), personal_layers=["v"]).on_test_start()


def test_a_model_that_is_shared_as_a_whole_is_tested_without_a_word(recwarn):
    Federation(Layers(w=0.0, v=0.0), FedAvg()).on_test_start()
    assert not recwarn.list
