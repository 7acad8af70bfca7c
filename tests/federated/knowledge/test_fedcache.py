"""FedCache: neighbors and means by loops, rounds by hand, bytes, late clients, exactness, what is refused."""

import pytest
import torch
import torch.nn.functional as F

from lkd.federated import FedCache, Federation, Local, LocalTraining
from lkd.federated.knowledge.common.nearest_samples import mean_of_rows, nearest_of_class
from lkd.modules import Classifier

from ..quadratic import loader, trainer
from ..test_rounds import samples
from .two_models import assert_same_bits, batches, federate, kept, net, placed, sgd

T, ALPHA, R = 2.0, 0.7, 3


def small(seed=1, width=5, classes=2):
    return Classifier(net(seed, width, classes), 2, optimizer=sgd)


def encoder():
    return net(6, 4, 4)


def cache(**kwargs):
    return FedCache(encoder(), **{"related": R, "alpha": ALPHA, "temperature": T, **kwargs})


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def related(codes, labels, count):
    """By loops over pairs."""
    found = []
    for i, code in enumerate(codes):
        others = [j for j in range(len(codes)) if j != i and labels[j] == labels[i]]
        found.append(sorted(others, key=lambda j: (-cosine(code, codes[j]), j))[:count])
    return found


def test_neighbors_by_loops():
    g = torch.Generator().manual_seed(0)
    codes = torch.randn(30, 4, generator=g)
    labels = torch.randint(5, (30,), generator=g)
    labels[0], labels[1], labels[2] = 7, 8, 8  # a class of one, a class of two
    expected = related(codes.double().tolist(), labels.tolist(), 4)
    found = nearest_of_class(codes, labels, 4)
    assert [[j for j in row if j >= 0] for row in found.tolist()] == expected
    assert found[0].tolist() == [-1] * 4 and found[1].tolist() == [2, -1, -1, -1]


def test_a_sample_is_not_its_own_neighbor_even_among_equals():
    found = nearest_of_class(torch.ones(4, 2), torch.zeros(4).long(), 2)
    assert found.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_means_by_loops():
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    which = [[0, 4, 2], [1, -1, -1], [-1, -1, -1]]
    means, known = mean_of_rows(values, torch.tensor(which))
    assert known.tolist() == [True, True, False]
    for row, mean in zip(which, means, strict=True):
        rows = [values[i] for i in row if i >= 0]
        torch.testing.assert_close(mean, sum(rows) / len(rows) if rows else torch.zeros(3).double())


def by_hand(models, clients, rounds):
    x, y = torch.cat([c.x for c in clients]), torch.cat([c.y for c in clients])
    offsets = [sum(c.num_samples for c in clients[:k]) for k in range(len(clients))]
    teachers = related(encoder()(x).double().tolist(), y.tolist(), R)
    logits = None
    for r in range(rounds):
        for k, (model, client) in enumerate(zip(models, clients, strict=True)):
            optimizer = sgd(model.parameters())
            for a, b in batches(client, r):
                loss = F.cross_entropy(model(a), b)
                if logits is not None:  # each sample by its value
                    for sample, z in zip(a, model(a), strict=True):
                        row = offsets[k] + int((client.x == sample).all(1).nonzero())
                        others = teachers[row]
                        if others:
                            mean = sum(logits[j] for j in others) / len(others)
                            p, log_q = (mean / T).softmax(0), (z / T).log_softmax(0)
                            loss = loss + ALPHA * T * T * (p * (p.log() - log_q)).sum() / len(a)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            logits = torch.cat([m(c.x) for m, c in zip(models, clients, strict=True)])
    return logits


def test_rounds_by_hand_with_two_architectures():
    clients, made = placed(), cache()
    federation = federate(made, 3, module=small(1), other_models=[small(2, 7)], clients=clients)
    models = [net(1), net(2, 7), net(1)]
    logits = by_hand(models, clients, 3)
    torch.testing.assert_close(torch.cat([made.state["logits"][str(i)] for i in range(3)]), logits)
    for i, model in enumerate(models):
        for name, value in model.named_parameters():
            torch.testing.assert_close(kept(federation, i, "network")[name], value.detach())


def test_hashes_go_up_once_and_logits_in_every_round():
    federation = federate(cache(), 3, module=small(), clients=placed())
    first, each = 40 * (4 * 4 + 8), 40 * 2 * 4
    assert federation.bytes_up == first + 3 * each + 3 * 3 * 8  # steps
    makes_hashes = 3 * sum(t.nbytes for t in encoder().state_dict().values())  # once to each client
    assert federation.bytes_down == 2 * (each + 40) + 3 * 3 * 2 * 8 + makes_hashes  # flags; round and steps
    assert federation.x == {}


def test_without_weight_clients_train_alone():
    """Bit for bit."""
    federation = federate(cache(alpha=0.0), 2, module=small(), clients=placed())
    context = federate(Local(), 2, module=small(), clients=placed())
    for i in range(3):
        alone = kept(context, i, "network")
        assert all(torch.equal(t, alone[n]) for n, t in kept(federation, i, "network").items())


def test_a_class_of_one_sample_has_no_teacher():
    lonely = placed((1,), batch=1)
    federation = federate(cache(), 2, module=small(), clients=lonely)
    alone = federate(Local(), 2, module=small(), clients=lonely)
    for name, value in kept(alone, 0, "network").items():
        assert torch.equal(kept(federation, 0, "network")[name], value)


def test_late_clients_join_the_cache():
    class Watched(FedCache):
        def begin(self, context):
            super().begin(context)
            got.setdefault(context.client.id, []).append(len(context.knowledge.get("logits", ())))

    got, sizes = {}, (8, 12, 8, 12)
    federation = Federation(small(), Watched(encoder(), R), LocalTraining(steps=2))
    trainer(6).fit(federation, loader(placed(sizes), size=2, seed=1))
    for client, seen in got.items():
        assert seen[0] == 0 and set(seen[1:]) <= {sizes[client]}
    assert set(federation.algorithm.state["codes"]) == {str(i) for i in got}


def test_hashes_that_are_not_told_again_are_bytes_saved():
    """Every sample has a teacher from the second round on, whose logits are a round old."""
    federation = federate(cache(), 3, module=small(), clients=placed())
    rates = federation.cache.rates()
    assert rates["hit_rate"] == pytest.approx(2 / 3) and rates["age"] == 1.0
    assert rates["bytes_saved"] == 2 * 40 * (4 * 4 + 8)
    assert "acc_misses" not in rates  # who has no teacher is told nothing that could be right


def test_hits_ages_and_accuracy_by_loops_where_two_of_four_come():
    class Watched(FedCache):
        def begin(self, context):
            super().begin(context)
            seen.append((context.round, context.client.id, dict(context.knowledge)))

    seen, clients = [], placed((8, 12, 8, 12))
    federation = Federation(small(), Watched(encoder(), R), LocalTraining(steps=2))
    trainer(6).fit(federation, loader(clients, size=2, seed=1))
    came, lookups, hits, right, age = {}, 0, 0, 0, 0.0
    for r in range(6):
        here = sorted(came)  # whom the cache knows
        offsets, owner = {}, []
        for k in here:
            offsets[k] = len(owner)
            owner += [k] * clients[k].num_samples
        if here:
            y = torch.cat([clients[k].y for k in here])
            codes = encoder()(torch.cat([clients[k].x for k in here])).double().tolist()
            teachers = related(codes, y.tolist(), R)
        for _, k, knowledge in [one for one in seen if one[0] == r]:
            lookups += clients[k].num_samples
            if k not in came:
                assert knowledge and all(name.startswith("encoder/") for name in knowledge)
                continue
            for place in range(clients[k].num_samples):
                others = teachers[offsets[k] + place]
                assert bool(knowledge["known"][place]) == bool(others)
                if others:
                    hits += 1
                    age += sum(r - came[owner[j]] for j in others) / len(others)
                    right += int(knowledge["logits"][place].argmax() == clients[k].y[place])
        came |= {k: r for q, k, _ in seen if q == r}
    use = federation.cache
    assert (use.lookups, use.hits, use.hits_judged, use.hits_right) == (lookups, hits, hits, right)
    assert use.age == pytest.approx(age, rel=1e-6) and use.age > use.hits


def test_same_seed_same_bits_in_any_order():
    one, two = (federate(cache(), 2, module=small(), clients=placed()) for _ in range(2))
    backwards = federate(cache(), 2, module=small(), clients=placed()[::-1])
    assert_same_bits(one, two)
    assert_same_bits(one, backwards)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: cache(related=0), ValueError, "related=0 must be 1 or more"),
        (lambda: cache(alpha=-1.0), ValueError, "alpha=-1.0 must be 0 or more"),
        (lambda: cache(temperature=0.0), ValueError, "temperature=0.0 must be above 0"),
        (
            lambda: federate(cache(layer="network.9"), module=small(), clients=placed()),
            ValueError,
            "layer='network.9' is not a layer",
        ),
        (
            lambda: federate(
                cache(), module=small(), other_models=[small(2, 5, classes=3)], clients=placed()
            ),
            ValueError,
            r"gives \(2,\) at client 2, \(3,\) at client 1: all clients must have the same classes",
        ),
        (
            lambda: federate(cache(), module=small(), clients=samples()),
            RuntimeError,
            "has no method `train_places`",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_encoder_is_not_trained():
    made = cache()
    federate(made, 2, module=small(), clients=placed())
    for value, before in zip(made.encoder.parameters(), encoder().parameters(), strict=True):
        assert torch.equal(value, before)
