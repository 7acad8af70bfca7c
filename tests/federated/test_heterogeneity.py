import random

import numpy as np
import pytest
import torch

from lkd.federated.server.heterogeneity import Fate, SystemHeterogeneity, epochs, steps

EVERYTHING = {"straggler_share": 0.5, "dropout": 0.2, "availability": 0.9, "speed_sigma": 0.5}


def fates(devices, rounds=400, clients=10):
    return [fate for r in range(rounds) for fate in devices.plan(r, range(clients)).values()]


def test_by_default_everybody_does_everything():
    assert set(fates(SystemHeterogeneity(), rounds=3)) == {
        Fate(available=True, work=1.0, dropped=False, speed=1.0)
    }


@pytest.mark.parametrize(
    ("share", "clients", "count"), [(0.9, 10, 9), (0.5, 10, 5), (0.25, 9, 2), (1, 3, 3), (0, 3, 0)]
)
def test_an_exact_share_straggles_in_every_round(share, clients, count):
    devices = SystemHeterogeneity(straggler_share=share)
    for r in range(50):
        assert sum(fate.work < 1 for fate in devices.plan(r, range(clients)).values()) == count


def test_every_client_straggles_as_often():
    devices = SystemHeterogeneity(straggler_share=0.3)
    ids = [3, 5, 8, 13, 21, 34, 55, 89, 144, 233]
    slow = np.array([[f.work < 1 for f in devices.plan(r, ids).values()] for r in range(2000)])
    assert np.abs(slow.mean(0) - 0.3).max() < 4 * (0.3 * 0.7 / 2000) ** 0.5


def test_stragglers_are_kept_or_dropped_and_are_the_same_ones():
    partial = fates(SystemHeterogeneity(straggler_share=0.5), rounds=20)
    drop = fates(SystemHeterogeneity(straggler_share=0.5, stragglers="drop"), rounds=20)
    assert [f.work for f in partial] == [f.work for f in drop]
    assert not any(f.dropped for f in partial) and all(f.dropped == (f.work < 1) for f in drop)


def test_frequencies():
    many = fates(SystemHeterogeneity(dropout=0.2, availability=0.7))
    available, dropped = np.array([[f.available, f.dropped] for f in many]).T
    assert abs(available.mean() - 0.7) < 4 * (0.7 * 0.3 / 4000) ** 0.5
    assert abs(dropped.mean() - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5
    assert abs(np.corrcoef(available, dropped)[0, 1]) < 0.07  # independent
    assert not any(f.available for f in fates(SystemHeterogeneity(availability=0.0), 3))
    assert all(f.dropped for f in fates(SystemHeterogeneity(dropout=1.0), 3))


def test_speeds_are_log_normal_with_median_1_and_stay_with_the_client():
    devices = SystemHeterogeneity(speed_sigma=0.5)
    logs = np.log([fate.speed for fate in devices.plan(0, range(4000)).values()])
    assert abs(np.median(logs)) < 0.05 and abs(logs.std() - 0.5) < 0.03
    assert [f.speed for f in devices.plan(7, [11, 12]).values()] == pytest.approx(np.exp(logs[[11, 12]]))


def test_epochs_of_stragglers_are_fedproxs_uniform_1_to_e_minus_1():
    slow = fates(SystemHeterogeneity(straggler_share=1.0))
    counts = np.bincount([epochs(5, fate) for fate in slow], minlength=6)
    assert counts[0] == counts[5] == 0 and np.abs(counts[1:5] / 4000 - 0.25).max() < 0.03
    assert {epochs(2, fate) for fate in slow} == {epochs(1, fate) for fate in slow} == {1}
    assert epochs(5, Fate()) == 5 and epochs(1, Fate()) == 1


def test_a_part_of_a_single_epoch_is_counted_in_steps():
    slow = fates(SystemHeterogeneity(straggler_share=1.0))
    counts = np.array([steps(100, fate) for fate in slow])
    assert counts.min() >= 1 and counts.max() <= 100 and abs(counts.mean() - 50) < 2
    assert steps(1, slow[0]) == 1 and steps(7, Fate()) == 7


def test_min_work():
    work = np.array([fate.work for fate in fates(SystemHeterogeneity(straggler_share=1.0, min_work=0.6))])
    assert work.min() >= 0.6 and work.max() < 1 and abs(work.mean() - 0.8) < 0.01


def test_a_pure_function_of_seed_round_and_cohort():
    devices, ids = SystemHeterogeneity(**EVERYTHING, seed=4), [9, 2, 5, 7]
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    plan = devices.plan(3, ids)
    assert random.getstate() == state[0] and np.random.get_state()[1].tolist() == state[1]
    assert torch.equal(torch.get_rng_state(), state[2])
    devices.plan(8, [1, 2, 3])  # what was asked before does not matter
    assert plan == devices.plan(3, ids[::-1]) == SystemHeterogeneity(**EVERYTHING, seed=4).plan(3, ids)
    assert list(plan) == [2, 5, 7, 9]
    assert plan != devices.plan(4, ids) and plan != SystemHeterogeneity(**EVERYTHING, seed=5).plan(3, ids)


def test_all_but_straggling_does_not_depend_on_the_others():
    devices = SystemHeterogeneity(**EVERYTHING)
    alone = [devices.plan(2, [client])[client] for client in range(50)]
    together = devices.plan(2, range(50)).values()
    assert [(f.available, f.dropped, f.speed) for f in alone] == [
        (f.available, f.dropped, f.speed) for f in together
    ]


@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"straggler_share": 1.5}, r"straggler_share=1.5 must be in \[0, 1\]"),
    ({"dropout": -0.1}, "dropout=-0.1 must be"),
    ({"availability": 2}, "availability=2 must be"),
    ({"min_work": 1.0}, r"min_work=1.0 must be in \[0, 1\)"),
    ({"stragglers": "wait"}, "stragglers='wait' must be 'partial' or 'drop'"),
    ({"seed": -1}, "seed=-1 must be 0 or more"),
])  # fmt: skip
def test_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        SystemHeterogeneity(**wrong)
