"""DS-FL: aggregation in closed form, rounds by hand, what travels, what is refused."""

import math

import pytest
import torch

from lkd.federated import DSFL, FedET, FedMD, Local
from lkd.federated.knowledge import dsfl, fedet
from lkd.federated.knowledge.common.consensus import consensus
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.dsfl import enhanced_entropy_reduction, entropy_reduction

from ..test_exact import assert_same, result
from ..test_exact import run as run_job
from ..test_rounds import samples
from .public import (
    NUMBER,
    Rows,
    Speaking,
    assert_own,
    descend,
    federate,
    model,
    net,
    nets,
    train_privately,
    with_public,
)
from .two_models import assert_same_bits


def softmax(row):
    exps = [math.exp(v) for v in row]
    return [e / sum(exps) for e in exps]


def said(clients=3, n=4, c=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(clients, n, c, generator=g, dtype=torch.float64)


def aggregated(logits, temperature):
    """The paper's two aggregations in plain loops; None is the simple mean."""
    clients, n, c = logits.shape
    rows = []
    for i in range(n):
        each = [softmax(logits[k, i].tolist()) for k in range(clients)]
        mean = [sum(p[j] for p in each) / clients for j in range(c)]
        rows.append(mean if temperature is None else softmax([m / temperature for m in mean]))
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_entropy_reduction_is_the_softmax_of_the_mean_probability(temperature):
    logits = said()
    found = DSFL(temperature=temperature).agree(None, logits, [0, 1, 2])
    torch.testing.assert_close(found, aggregated(logits, temperature), rtol=1e-12, atol=0)
    simple = DSFL("mean").agree(None, logits, [0, 1, 2])
    torch.testing.assert_close(simple, aggregated(logits, None), rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_enhanced_entropy_reduction_is_a_power_of_the_mean_made_a_distribution(beta):
    logits, rows = said(), []
    for mean in aggregated(logits, None).tolist():
        powers = [m**beta for m in mean]
        rows.append([p / sum(powers) for p in powers])
    found = DSFL("enhanced", beta=beta).agree(None, logits, [0, 1, 2])
    torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.float64), rtol=1e-12, atol=0)


def test_enhanced_entropy_reduction_begins_at_the_mean_and_ends_at_its_class():
    probabilities = said().softmax(-1)
    torch.testing.assert_close(enhanced_entropy_reduction(probabilities, 1.0), probabilities.mean(0))
    sharp = enhanced_entropy_reduction(probabilities, 1e6)  # powers would underflow to 0 / 0
    torch.testing.assert_close(sharp, torch.eye(5).double()[probabilities.mean(0).argmax(1)])
    certain = enhanced_entropy_reduction(torch.tensor([[[1.0, 0.0]]]))
    assert certain.tolist() == [[1.0, 0.0]]


def entropy(p):
    return -(p * p.log()).sum(1)


def test_it_reduces_entropy_where_clients_disagree():
    """Twenty clients of which eight say class 3, the others spread over the rest."""
    logits = 9 * torch.eye(10).double()[[3] * 8 + [0, 1, 2, 4, 5, 6, 7, 8, 9, 0, 1, 2]].unsqueeze(1)
    probabilities = logits.softmax(-1)
    found, mean = entropy_reduction(probabilities), probabilities.mean(0)
    assert float(entropy(found)) < float(entropy(mean)) and int(found.argmax()) == 3
    assert float(entropy(entropy_reduction(probabilities, 1.0))) > float(entropy(mean))  # T = 1 flattens


def test_it_is_not_fedmds_temperature():
    """A temperature of the clients' softmax, or of mean logits, is something else."""
    logits = said()
    era = DSFL().agree(None, logits, [0, 1, 2])
    assert not torch.allclose(era, consensus(logits, temperature=0.1), atol=1e-3)
    assert not torch.allclose(era, (logits.mean(0) / 0.1).softmax(-1), atol=1e-3)


def test_the_loss_is_a_mean_over_samples_not_over_classes():
    logits, targets = said()[0], aggregated(said(seed=1), 0.1)
    expected = -sum(
        q * math.log(p)
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
        for p, q in zip(softmax(row), target, strict=True)
    )
    assert float(DSFL().compare(logits, targets)) == pytest.approx(expected / 4, rel=1e-12)


def test_the_target_gets_no_gradient_and_the_student_the_right_one():
    logits, targets = said()[0].requires_grad_(), aggregated(said(seed=1), 0.1)
    assert torch.autograd.gradcheck(lambda z: DSFL().compare(z, targets), logits)
    DSFL().compare(logits, targets).backward()
    torch.testing.assert_close(logits.grad, (logits.softmax(1) - targets) / 4)


def by_hand(rounds, epochs, temperature, clients, server=True):
    models, the_server, x = nets(), net(1), clients[0].public.x
    for r in range(rounds):
        for network, client in zip(models, clients, strict=True):
            train_privately(network, client, r)
        with torch.no_grad():
            target = aggregated(torch.stack([m(x).double() for m in models]), temperature).float()
        for network in [*models, *([the_server] if server else [])]:
            for _ in range(epochs):
                descend(network, -(target * network(x).log_softmax(1)).sum(1).mean())
    return models, the_server


@pytest.mark.parametrize(("kind", "temperature"), [("entropy_reduction", 0.1), ("mean", None)])
def test_rounds_by_hand(kind, temperature):
    """All public samples in one batch, so that their order counts for nothing."""
    federation = federate(DSFL(kind, samples=None, epochs=2), rounds=3)
    models, server = by_hand(3, 2, temperature, with_public())
    assert_own(federation, models)
    for ours, theirs in zip(federation.model.network.parameters(), server.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_servers_model_can_be_left_alone():
    federation = federate(DSFL(samples=None, epochs=1, server_epochs=0))
    assert_own(federation, by_hand(2, 1, 0.1, with_public(), server=False)[0])
    assert all(
        torch.equal(a, b)
        for a, b in zip(federation.model.network.parameters(), net(1).parameters(), strict=True)
    )


def test_what_a_client_has_learned_from_others_does_not_depend_on_the_servers_model():
    one, two = (federate(DSFL(server_epochs=n)) for n in (0, 5))
    for i in range(3):
        assert_same_bits_of(one, two, i)


def assert_same_bits_of(one, two, i):
    a, b = (f.engine.host.store.get(i)["personal"] for f in (one, two))
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_a_learning_rate_of_nothing_on_public_data_is_local_training():
    """One client alone with T -> its own mean still moves it; without gradient, it is local training bit for bit."""
    exchange = DSFL()
    exchange.compare = lambda logits, targets: 0.0 * soft_cross_entropy(logits, targets)
    one, two = federate(exchange), federate(Local())
    for i in range(3):
        assert_same_bits_of(one, two, i)


def test_one_client_that_learns_its_own_mean_stays_where_it_is():
    """The simple mean of one client is what it says already: the gradient is zero."""
    clients = with_public(samples()[:1])
    one = federate(DSFL("mean", samples=None, epochs=1), clients=clients)
    two = federate(Local(), clients=clients)
    for name, value in one.engine.host.store.get(0)["personal"].items():
        torch.testing.assert_close(value, two.engine.host.store.get(0)["personal"][name], rtol=0, atol=1e-6)


def test_logits_travel_up_and_targets_down_and_nothing_else():
    federation = federate(DSFL(samples=6), rounds=2)
    floats = 6 * 2 * 4  # samples, classes, bytes
    down = 2 * NUMBER  # train: round and steps
    down += 2 * NUMBER + 2 * NUMBER + floats  # predict: round and seed; digest: the same and the targets
    assert federation.bytes_down == 2 * 3 * down
    assert federation.bytes_up == 2 * 3 * (NUMBER + floats)


def test_public_batches_do_not_pile_up():
    """The third round sends as much as the first, of other samples."""
    drawn = []

    class Watched(Rows):
        def batches(self, rows, batch_size):
            drawn.append(list(rows))
            return super().batches(rows, batch_size)

    public = Watched()
    federate(DSFL(samples=4, epochs=1, server_epochs=0), rounds=3, clients=with_public(public=public))
    assert drawn.pop(0) == [0]  # the sizes of all outputs, before anybody works
    assert {len(rows) for rows in drawn} == {4}
    rounds = [frozenset(rows) for rows in drawn[::6]]
    assert len(set(rounds)) == 3 and len(drawn) == 3 * 6  # each client predicts and digests


def test_same_seed_same_bits_in_any_order():
    one, two = federate(DSFL(samples=7, batch_size=3)), federate(DSFL(samples=7, batch_size=3))
    backwards = federate(DSFL(samples=7, batch_size=3), clients=with_public(samples()[::-1]))
    assert_same_bits(one, two)
    assert_same_bits(one, backwards)
    other = federate(DSFL(samples=7, batch_size=3), seed=1)
    assert not all(
        torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)
    )


def test_resumed_equals_uninterrupted(tmp_path):
    """Clients that are first drawn after the server's model has changed start from where all did."""
    run_job("dsfl", tmp_path / "whole", 5)
    run_job("dsfl", tmp_path / "parts", 1)
    assert len(result(tmp_path / "parts")["kept"]) < 5
    run_job("dsfl", tmp_path / "parts", 5)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))


@pytest.mark.parametrize(
    ("algorithm", "agrees", "given"),
    [
        (lambda: DSFL(batch_size=5), (dsfl, "entropy_reduction"), {}),
        (
            lambda: FedET(steps=3, batch_size=5),
            (fedet, "consensus_and_diversity"),
            {"client_models": [1] * 3, "shared_layers": ["net.4"]},
        ),
    ],
    ids=["dsfl", "fedet"],
)
def test_what_the_server_draws_does_not_depend_on_who_worked_before_it(algorithm, agrees, given, monkeypatch):
    """Ranks have other clients, and so other states of torch's generator; dropout at the server is the same."""
    agree, found = getattr(*agrees), []
    for disturbance in (1, 2):

        def disturbed(*args, disturbance=disturbance):
            torch.manual_seed(disturbance)
            return agree(*args)

        monkeypatch.setattr(*agrees, disturbed)
        torch.manual_seed(0)
        found.append(federate(algorithm(), module=Speaking(), other_models=[Speaking()], **given))
    for a, b in zip(found[0].model.parameters(), found[1].model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DSFL("era"), "aggregation='era' must be 'entropy_reduction', 'enhanced' or 'mean'"),
        (lambda: DSFL(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: DSFL("enhanced", beta=0.0), "beta=0.0 must be above 0 and finite"),
        (lambda: DSFL("enhanced", beta=math.nan), "beta=nan must be above 0"),
        (lambda: DSFL("enhanced", beta=math.inf), "beta=inf must be above 0 and finite"),
        (lambda: DSFL(server_epochs=-1), "server_epochs=-1 must be 0 or more"),
        (lambda: DSFL(samples=0), "samples=0 must be 1 or more"),
        (lambda: federate(DSFL(), other_models=[model(2, 7, classes=3)]), "must have the same classes"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_public_data_nobody_trains():
    clients = samples()
    for client in clients:
        client.public = None
    with pytest.raises(ValueError, match="exchanges what clients say of public data, and there are none"):
        federate(DSFL(), clients=clients)


def test_fedmd_digests_first_and_dsfl_trains_first():
    assert DSFL.trains_first and not FedMD.trains_first
