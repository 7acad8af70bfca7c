"""Attack: who lies and how, and that a robust rule withstands what steers the mean."""

import pytest
import torch

from lkd.federated import FD, Attack, CoordinateMedian, FedAvg, FedMD

from .knowledge.public import federate
from .quadratic import Point, run


def clients():
    """Five of the same quadratic, whose optimum is 1."""
    return [Point(i, [(1, 1.0)], 5) for i in range(5)]


def steered(**kwargs):
    return float(run(FedAvg(), 200, clients(), **kwargs).model.x.detach())


def test_flipped_signs_steer_the_mean_as_far_as_they_weigh():
    assert steered() == pytest.approx(1.0, abs=1e-3)
    # four of five pull by 1 and one pushes by 4: the mean stands still
    assert steered(attack=Attack([3], scale=4.0)) == pytest.approx(0.0, abs=1e-9)
    assert steered(attack=Attack([3], scale=4.0), aggregator=CoordinateMedian()) == pytest.approx(
        1.0, abs=1e-3
    )


def test_noise_is_as_long_as_asked_and_depends_on_seed_round_and_client():
    delta = {"a": torch.full((30, 20), 0.5), "b": torch.zeros(7, dtype=torch.float64)}
    attack = Attack([0], "noise", scale=3.0)
    first = attack.falsify(delta, round=1, client=0)
    length = torch.stack([t.double().square().sum() for t in first.values()]).sum().sqrt()
    assert float(length) == pytest.approx(3 * 0.5 * 600**0.5, rel=1e-5)
    assert first["b"].dtype == torch.float64 and first["b"].abs().min() > 0
    assert torch.equal(first["a"], attack.falsify(delta, round=1, client=0)["a"])
    others = [
        attack.falsify(delta, 2, 0),
        attack.falsify(delta, 1, 1),
        Attack([0], "noise", 3.0, 1).falsify(delta, 1, 0),
    ]
    assert not any(torch.equal(first["a"], other["a"]) for other in others)


def test_scaled_changes_outweigh_the_others():
    assert Attack([0], "scale", 3.0).falsify({"a": torch.tensor([1.0, -2.0])}, 0, 0)["a"].tolist() == [
        3.0,
        -6.0,
    ]
    # one of five that says five times as much: after a step 1.8 times as far
    one, two = (run(FedAvg(), 1, clients(), attack=a).model.x for a in (None, Attack([3], "scale", 5.0)))
    assert float(two.detach()) == pytest.approx(1.8 * float(one.detach()), rel=1e-12)


class Heard(FedMD):
    """Keeps what it was told."""

    def agree(self, server, logits, clients):
        self.heard = dict(zip(clients, logits, strict=True))
        return super().agree(server, logits, clients)


@pytest.mark.parametrize("kind", ["sign_flip", "scale", "noise"])
def test_knowledge_is_false_too(kind):
    honest, hostile = (Heard(warmup=0) for _ in range(2))
    federate(honest, 1)
    federation = federate(hostile, 1, attack=Attack([1], kind, 10.0))
    assert not any(record.error for record in federation.records)
    for client in (0, 2):
        assert torch.equal(honest.heard[client], hostile.heard[client])
    true, told = honest.heard[1], hostile.heard[1]
    if kind == "noise":
        assert float(told.norm()) == pytest.approx(10 * float(true.norm()), rel=1e-5)
    else:
        torch.testing.assert_close(told, true * (10.0 if kind == "scale" else -10.0), rtol=1e-6, atol=0)


def test_counts_stay_true():
    """A liar's table is false, its number of samples is not."""
    honest, hostile = FD(), FD()
    federate(honest, 1)
    federate(hostile, 1, attack=Attack([1], scale=2.0))
    a, b = honest.state, hostile.state
    assert torch.equal(a["counts"]["1"], b["counts"]["1"]) and int(b["counts"]["1"].sum()) == 12
    torch.testing.assert_close(b["means"]["1"], -2.0 * a["means"]["1"])


@pytest.mark.parametrize(("wrong", "message"), [
    ({"clients": []}, "clients="), ({"clients": [-1]}, "clients="), ({"clients": [0], "kind": "x"}, "kind='x'"),
    ({"clients": [0], "scale": 0.0}, "scale=0.0"), ({"clients": [0], "seed": -1}, "seed=-1"),
])  # fmt: skip
def test_bad_input(wrong, message):
    with pytest.raises(ValueError, match=message):
        Attack(**wrong)


def test_a_liar_that_does_not_exist():
    with pytest.raises(ValueError, match=r"attack.clients=\[9\]: the last of 2 clients is 1"):
        run(FedAvg(), 1, attack=Attack([9]))
