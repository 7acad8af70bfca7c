"""Cronus: the filter against plain loops, liars, rounds by hand, what travels, what is refused."""

import numpy as np
import pytest
import torch

from lkd.federated import Attack, CoordinateMedian, Cronus, FedMD, GeometricMedian, Krum, Local
from lkd.federated.knowledge.common.consensus import consensus
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.cronus import filtered_mean

from ..test_rounds import samples
from .public import NUMBER, assert_own, descend, federate, nets, train_privately, with_public
from .two_models import assert_same_bits


def cloud(clients=12, n=5, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(clients, n, d)) * np.arange(1, d + 1)


def filtered(points, epsilon):
    """One mean after the other, from the covariance matrix."""
    found = []
    for n in range(points.shape[1]):
        x = points[:, n]
        _, vectors = np.linalg.eigh(np.cov(x.T))
        far = [abs(float(vectors[:, -1] @ (row - x.mean(0)))) for row in x]
        order = sorted(range(len(x)), key=lambda k: far[k])
        found.append(x[order[: len(x) - int(epsilon * len(x))]].mean(0))
    return np.array(found)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.25, 0.49])
def test_the_filter_cuts_along_the_top_eigenvector_of_the_covariance(epsilon):
    points = cloud()
    expected = torch.from_numpy(filtered(points, epsilon))
    torch.testing.assert_close(filtered_mean(torch.from_numpy(points), epsilon), expected)
    plain = torch.from_numpy(points.mean(0))
    assert torch.allclose(expected, plain) == (epsilon == 0)


def test_every_sample_is_filtered_by_itself():
    """Another client lies about each of two samples; cutting whole clients would cut honest answers."""
    points = torch.from_numpy(cloud(clients=10, n=2)) * 0.01
    points[3, 0] += 50
    points[7, 1] -= 50
    found = filtered_mean(points, 0.1)
    assert float(found.abs().max()) < 0.1
    honest = [
        torch.stack([points[k, i] for k in range(10) if k != liar]).mean(0) for i, liar in enumerate((3, 7))
    ]
    torch.testing.assert_close(found, torch.stack(honest))


def test_clients_that_agree_are_left_alone():
    point = torch.tensor([[0.2, 0.8]]).double()
    torch.testing.assert_close(filtered_mean(point.repeat(5, 1, 1), 0.2), point)
    torch.testing.assert_close(filtered_mean(point[None], 0.4), point)  # one client


def test_order_of_clients_is_irrelevant():
    points = torch.from_numpy(cloud())
    torch.testing.assert_close(filtered_mean(points.flip(0), 0.25), filtered_mean(points, 0.25))


@pytest.mark.parametrize("lie", ["flipped", "scaled"])
def test_two_liars_of_ten_sink_the_mean_of_logits_and_not_cronus(lie):
    """Agreement with the truth, which honest clients know in nine of ten samples."""
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(10, (2000,), generator=g)
    logits = 1.5 * torch.randn(10, 2000, 10, generator=g, dtype=torch.float64)
    logits += 4 * torch.nn.functional.one_hot(truth, 10)
    liars = logits.clone()
    # the opposite, or always another class, loudly
    liars[:2] = (
        -10 * logits[:2] if lie == "flipped" else 100 * torch.nn.functional.one_hot((truth + 1) % 10, 10)
    )

    def right(targets):
        return float((targets.argmax(1) == truth).double().mean())

    honest = right(consensus(logits[2:]))
    assert honest > 0.95
    assert right(liars.mean(0)) < 0.3
    for rule in (None, GeometricMedian(), CoordinateMedian()):
        assert right(Cronus(rule=rule).agree(None, liars, list(range(10)))) > honest - 0.02


def test_targets_are_probabilities():
    logits = torch.randn(7, 6, 4, generator=torch.Generator().manual_seed(0)).double() * 4
    for rule in (None, CoordinateMedian(), Krum(byzantine=2)):
        targets = Cronus(rule=rule).agree(None, logits, list(range(7)))
        assert float(targets.min()) >= 0
        torch.testing.assert_close(targets.sum(1), torch.ones(6).double())
    median = logits.softmax(-1).median(0).values
    torch.testing.assert_close(
        Cronus(rule=CoordinateMedian()).agree(None, logits, list(range(7))),
        median / median.sum(1, keepdim=True),
    )
    one = Cronus(rule=Krum(byzantine=2)).agree(None, logits, list(range(7)))
    picked = [int((logits.softmax(-1)[:, i] - one[i]).abs().sum(1).argmin()) for i in range(6)]
    assert len(set(picked)) > 1  # Krum chose for each sample, not for all


def test_rounds_by_hand():
    """A round alone, then: say, join, learn that, learn what is one's own."""
    federation = federate(Cronus(epsilon=0.4), rounds=3)
    models, clients = nets(), with_public()
    x = clients[0].public.x
    for r in range(3):
        if r:
            with torch.no_grad():
                said = torch.stack([m(x).double().softmax(1) for m in models])
            target = torch.from_numpy(filtered(said.numpy(), 0.4)).float()
            for network in models:
                descend(network, -(target * network(x).log_softmax(1)).sum(1).mean())
        for network, client in zip(models, clients, strict=True):
            train_privately(network, client, r)
    assert_own(federation, models)


def test_without_a_cut_it_is_fedmd_with_probabilities():
    """Bit for bit but for the order of one sum."""
    one, two = federate(Cronus(0.0)), federate(FedMD(of="probabilities"))
    for i in range(3):
        for name, value in one.engine.host.store.get(i)["personal"].items():
            torch.testing.assert_close(value, two.engine.host.store.get(i)["personal"][name])


def test_without_a_gradient_it_is_local_training():
    exchange = Cronus()
    exchange.compare = lambda logits, targets: 0.0 * soft_cross_entropy(logits, targets)
    assert_same_personal(federate(exchange), federate(Local()))


def assert_same_personal(one, two):
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"] for f in (one, two))
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_a_liar_does_not_move_the_others():
    """Three honest clients that are alike and one that sends the opposite, a hundred times: as without it."""

    def alike():
        clients = with_public([type(c)(0, 8, population=4) for c in (*samples(), samples()[0])])
        for i, client in enumerate(clients):
            client.id = i
        return clients

    attack = Attack([3], "sign_flip", scale=100.0)
    one, two = (
        federate(Cronus(0.25), clients=alike(), client_models=[0] * 4, attack=a) for a in (None, attack)
    )
    for name, value in one.engine.host.store.get(0)["personal"].items():
        torch.testing.assert_close(value, two.engine.host.store.get(0)["personal"][name], rtol=0, atol=0.01)
    broken = federate(FedMD(of="logits"), clients=alike(), client_models=[0] * 4, attack=attack)
    moved = [
        (one.engine.host.store.get(0)["personal"][n] - t).abs().max()
        for n, t in broken.engine.host.store.get(0)["personal"].items()
    ]
    assert max(moved) > 0.05


def test_logits_travel_up_and_targets_down_and_nothing_else():
    federation = federate(Cronus(samples=6), rounds=3)
    floats = 6 * 2 * 4
    assert federation.bytes_down == 3 * (2 * NUMBER + 2 * (2 * NUMBER + 3 * NUMBER + floats))
    assert federation.bytes_up == 3 * (NUMBER + 2 * (floats + NUMBER))


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(Cronus(0.4, batch_size=3)) for _ in range(2))
    assert_same_bits(one, two)
    assert_same_bits(one, federate(Cronus(0.4, batch_size=3), clients=with_public(samples()[::-1])))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Cronus(epsilon=0.5), ValueError, r"epsilon=0.5 must be in \[0, 0.5\)"),
        (lambda: Cronus(rule="median"), TypeError, "rule='median' must be an object of Rule"),
        (
            lambda: federate(Cronus(rule=Krum(1))),
            ValueError,
            "Krum as it is set needs at least 5 clients, but 3",
        ),
        (lambda: Cronus(epochs=0), ValueError, "epochs=0 must be 1 or more"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
