"""Attack: who lies and how, and that a robust rule withstands what steers the mean."""

import pytest
import torch

from lkd.federated import Attack, CoordinateMedian, FedAvg

from .quadratic import Point, run


def clients():
    """Five of the same quadratic, whose optimum is 1."""
    return [Point(i, [(1, 1.0)], 5) for i in range(5)]


def steered(**kwargs):
    return float(run(FedAvg(), 200, clients(), **kwargs).client.x.detach())


def test_flipped_signs_steer_the_mean_as_far_as_they_weigh():
    assert steered() == pytest.approx(1.0, abs=1e-3)
    # four of five pull by 1 and one pushes by 4: the mean stands still
    assert steered(attack=Attack([3], scale=4.0)) == pytest.approx(0.0, abs=1e-9)
    assert steered(attack=Attack([3], scale=4.0), robust=CoordinateMedian()) == pytest.approx(1.0, abs=1e-3)


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
