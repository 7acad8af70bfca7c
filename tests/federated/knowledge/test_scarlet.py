"""SCARLET: DS-FL without a cache, rounds by hand with one, exact bytes, late clients, what is measured and refused."""

import copy
import math

import pytest
import torch

from lkd.federated import DSFL, SCARLET

from ..test_exact import assert_same, result
from ..test_exact import run as run_job
from ..test_rounds import samples
from .public import (
    NUMBER,
    Rows,
    assert_own,
    descend,
    federate,
    net,
    nets,
    train_privately,
    with_public,
)
from .two_models import assert_same_bits

CLASSES, FLOAT = 2, 4


class Labeled(Rows):
    """Public samples whose true class is the sign of their first number."""

    def labeled(self, rows, batch_size):
        return ((x, (x[:, 0] > 1).long()) for x in self.batches(rows, batch_size))


class Watched(SCARLET):
    """Keeps what the server knows and what every client is taught, round by round."""

    def targets(self, server, numbers):
        self.seen = getattr(self, "seen", [])
        self.seen.append((super().targets(server, numbers), {}))
        return self.seen[-1][0]

    def told(self, context):
        self.seen[-1][1][context.client.id] = super().told(context)
        return self.seen[-1][1][context.client.id]


@pytest.mark.parametrize("aggregation", ["entropy_reduction", "enhanced", "mean"])
def test_without_duration_it_is_dsfl_bit_for_bit_and_byte_for_byte(aggregation):
    one = federate(SCARLET(0, aggregation, samples=7, batch_size=3), rounds=3)
    two = federate(DSFL(aggregation, samples=7, batch_size=3), rounds=3)
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"] for f in (one, two))
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert (one.bytes_down, one.bytes_up) == (two.bytes_down, two.bytes_up)
    assert one.cache.hits == one.cache.bytes_saved == 0 and one.cache.lookups == 3 * 3 * 7
    assert all("labels" not in one.engine.host.store.get(i).get("memory", {}) for i in range(3))


def by_hand(rounds, duration, beta, clients):
    models, server, x, target, age = nets(), net(1), clients[0].public.x, None, 0
    for r in range(rounds):
        for network, client in zip(models, clients, strict=True):
            train_privately(network, client, r)
        if target is None or age == duration:
            with torch.no_grad():
                power = torch.stack([m(x).softmax(1) for m in models]).mean(0) ** beta
            target, age = power / power.sum(1, keepdim=True), 0
        else:
            age += 1
        for network in [*models, server]:
            descend(network, -(target * network(x).log_softmax(1)).sum(1).mean())
    return models, server


@pytest.mark.parametrize("duration", [1, 2, 9])
def test_rounds_by_hand(duration):
    federation = federate(SCARLET(duration, beta=1.5, samples=None, epochs=1), rounds=5)
    models, server = by_hand(5, duration, 1.5, with_public())
    assert_own(federation, models)
    for ours, theirs in zip(federation.model.network.parameters(), server.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_is_there_does_not_travel_again():
    federation = federate(SCARLET(duration=1, samples=None), rounds=4)  # asked in rounds 0 and 2
    floats = 10 * CLASSES * FLOAT
    asked = 2 * NUMBER + 2 * NUMBER + 2 * NUMBER + floats  # train, predict, and digest with all targets
    cached = 2 * NUMBER + 2 * NUMBER + 10  # train, and digest with a flag a sample
    assert federation.bytes_down == 3 * 2 * (asked + cached)
    assert federation.bytes_up == 3 * (4 * NUMBER + 2 * floats)
    assert federation.cache.rates() == {
        "hit_rate": 0.5,
        "age": 1.0,
        "bytes_saved": 3 * 2 * (2 * NUMBER + 2 * floats - 10),
    }


def test_only_the_missing_part_of_a_drawn_round_is_asked_for():
    """By hand from the draws of the rounds."""
    made = SCARLET(duration=9, samples=4, epochs=1)
    federation, known, up, down = federate(made, rounds=3), set(), 0, 0
    for r in range(3):
        rows = set(made.rows(0, r, 10).tolist())
        new = len(rows - known)
        flags = 0 if new == 4 else 4
        up += NUMBER + new * CLASSES * FLOAT
        down += 2 * NUMBER + (2 * NUMBER + flags if new else 0) + 2 * NUMBER + new * CLASSES * FLOAT + flags
        known |= rows
    assert len(known) < 12 and (federation.bytes_up, federation.bytes_down) == (3 * up, 3 * down)
    assert federation.cache.hits == 3 * (12 - len(known))


@pytest.mark.parametrize(("samples_", "size"), [(None, None), (6, 1), (6, 2), (None, 2)])
def test_bytes_and_bytes_saved_add_up_to_those_of_dsfl(samples_, size):
    given = {"samples": samples_, "epochs": 1, "server_epochs": 0}
    one = federate(SCARLET(2, **given), rounds=7, size=size)
    two = federate(DSFL("enhanced", **given), rounds=7, size=size)
    assert one.cache.bytes_saved > 0
    assert one.bytes_down + one.bytes_up + one.cache.bytes_saved == two.bytes_down + two.bytes_up


def test_late_clients_are_served_from_the_cache():
    """Cohorts of one: whoever comes is asked of little, and learns the same targets as everybody would."""
    made = Watched(duration=9, samples=6, epochs=1)
    federation = federate(made, rounds=8, size=1)
    assert len({client for _, told in made.seen for client in told}) == 3
    for targets, told in made.seen:
        for found in told.values():
            assert torch.equal(found, targets)
    assert federation.cache.hits == 8 * 6 - 10  # each of the ten was asked for once
    held = federation.algorithm.state["held"]
    for client, has in held.items():
        kept = federation.engine.host.store.get(int(client))["memory"]["labels"]
        assert torch.equal(kept[has], federation.algorithm.state["cache"]["labels"][has])


def test_who_failed_to_learn_is_sent_it_again():
    class Broken(Watched):
        def digest(self, context):
            if (context.client.id, context.round) == (1, 0):
                raise OSError("no network")
            super().digest(context)

    made = Broken(duration=9, samples=None, epochs=1)
    with pytest.warns(UserWarning, match="client client1 failed"):
        federation = federate(made, rounds=2)
    targets, told = made.seen[1]
    assert set(told) == {0, 1, 2} and all(torch.equal(found, targets) for found in told.values())
    records = {record.client: record for record in federation.records}
    assert records[1].bytes_down == records[0].bytes_down + 10 * CLASSES * FLOAT - 10
    assert records[1].cache.bytes_saved == records[0].cache.bytes_saved - 10 * CLASSES * FLOAT + 10


def test_accuracy_of_hits_and_misses_by_hand():
    public = Labeled()
    made = Watched(duration=9, samples=4, epochs=1, measure=True)
    federation = federate(made, rounds=4, clients=with_public(public=public))
    truth, known = (public.x[:, 0] > 1).long(), set()
    counts = {True: [0, 0], False: [0, 0]}
    for r, (targets, _) in enumerate(made.seen):
        for row, target in zip(made.rows(0, r, 10).tolist(), targets, strict=True):
            counts[row in known][0] += 3
            counts[row in known][1] += 3 * int(target.argmax() == truth[row])
            known.add(row)
    use = federation.cache
    assert [use.hits_judged, use.hits_right] == counts[True]
    assert [use.misses_judged, use.misses_right] == counts[False]
    assert federation.cache.rates()["acc_misses"] == counts[False][1] / counts[False][0]
    plain = federate(SCARLET(9, samples=4, epochs=1), rounds=4, clients=with_public(public=public))
    assert_same_bits(plain, federation)  # nothing learns from the labels
    assert plain.cache.hits_judged == 0 and "acc_hits" not in plain.cache.rates()


def test_same_seed_same_bits_in_any_order():
    def once(order, seed=0):
        return federate(
            SCARLET(1, samples=7, batch_size=3), 4, clients=with_public(samples()[::order]), seed=seed
        )

    one = once(1)
    assert_same_bits(one, once(1))
    assert_same_bits(one, once(-1))
    other = once(1, seed=1)
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_resumed_equals_uninterrupted(tmp_path):
    """Also what was saved, and who holds what."""
    whole = run_job("scarlet", tmp_path / "whole", 5)
    run_job("scarlet", tmp_path / "parts", 2)
    parts = run_job("scarlet", tmp_path / "parts", 5)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))
    assert whole.cache == parts.cache and whole.cache.hits > 0
    for group, tensors in whole.algorithm.state.items():
        assert tensors.keys() == parts.algorithm.state[group].keys()
        assert all(torch.equal(t, parts.algorithm.state[group][n]) for n, t in tensors.items())


def without_public():
    clients = samples()
    for client in clients:
        client.public = None
    return clients


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCARLET(-1), "duration=-1 must be 0 or more"),
        (lambda: SCARLET(beta=0.0), "beta=0.0 must be above 0"),
        (lambda: SCARLET(beta=-math.inf), "beta=-inf must be above 0"),
        (
            lambda: SCARLET(aggregation="era"),
            "aggregation='era' must be 'entropy_reduction', 'enhanced' or 'mean'",
        ),
        (lambda: SCARLET(samples=0), "samples=0 must be 1 or more"),
        (lambda: federate(SCARLET(), clients=without_public()), "of public data, and there are none"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_of_other_public_data_are_refused_before_anybody_trains():
    """As where a run is resumed with other public data of the same size."""
    before = federate(SCARLET(9, epochs=1)).algorithm.state

    class Resumed(SCARLET):
        def setup(self, x):
            super().setup(x)
            self.state = copy.deepcopy(before)

    assert federate(Resumed(9, epochs=1)).cache.rates()["hit_rate"] == 1.0
    middle = Rows()
    middle.x[4] += 1
    for other in (Rows(seed=8), Rows(size=9), middle):
        with pytest.raises(ValueError, match=rf"of other public data than these {len(other)} samples"):
            federate(Resumed(9, epochs=1), clients=with_public(public=other))


def test_to_measure_without_labels_is_refused_before_anybody_trains():
    class Unlabeled(Rows):
        def labeled(self, rows, batch_size):
            raise ValueError("the public data (Rows) have no labels.")

    clients = with_public(public=Unlabeled())
    with pytest.raises(ValueError, match=r"measure=True needs public data with labels, and False needs none"):
        federate(SCARLET(measure=True), clients=clients)
