from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from lkd.federated.server import robust_functional as robust
from lkd.federated.server.robust import CoordinateMedian, GeometricMedian, Krum, NormClipping, TrimmedMean
from lkd.federated.server.robust_functional import (
    clip_norms,
    coordinate_median,
    geometric_median,
    krum,
    trimmed_mean,
)


def draw(clients=10, size=6, seed=0, dtype=torch.float32):
    return torch.randn(clients, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(params=[None, 16], ids=["whole", "chunks"])
def chunks(request, monkeypatch):
    """Everything holds, too, if only one or two columns are worked on at once."""
    if request.param:
        monkeypatch.setattr(robust, "CHUNK", request.param)


RULES = [CoordinateMedian(), TrimmedMean(0.2), Krum(2), Krum(2, keep=5), GeometricMedian(),
         NormClipping(), NormClipping(1.0), NormClipping(rule=Krum(2))]  # fmt: skip
NAMES = ["median", "trimmed", "krum", "multi-krum", "geometric", "clip-median", "clip", "clip-krum"]
every_rule = pytest.mark.parametrize("rule", RULES, ids=NAMES)


@pytest.mark.parametrize("clients", [1, 2, 7, 10])
def test_median_is_numpys(chunks, clients):
    updates = draw(clients)
    expected = np.median(updates.double().numpy(), axis=0)
    np.testing.assert_allclose(coordinate_median(updates).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.4])
def test_trimmed_mean_is_scipys(chunks, trim):
    updates = draw(12)
    expected = stats.trim_mean(updates.double().numpy(), trim, axis=0)
    np.testing.assert_allclose(trimmed_mean(updates, trim).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_trimmed_mean_cuts_the_share_that_is_written():
    updates = torch.arange(100.0)[:, None] ** 3
    kept = (np.arange(29, 71) ** 3.0).mean()
    assert trimmed_mean(updates, 0.29).item() == pytest.approx(kept)  # int(.29 * 100) is 28


@pytest.mark.parametrize(("clients", "byzantine", "keep"), [(7, 2, 1), (10, 0, 3), (9, 3, 4), (3, 0, 1)])
def test_krum_is_the_papers_formula(chunks, clients, byzantine, keep):
    updates = draw(clients).double().numpy()
    scores = []
    for i in range(clients):
        others = sorted(((updates[i] - updates[j]) ** 2).sum() for j in range(clients) if j != i)
        scores.append(sum(others[: clients - byzantine - 2]))
    expected = updates[np.argsort(scores)[:keep]].mean(0)
    np.testing.assert_allclose(krum(torch.tensor(updates), byzantine, keep).numpy(), expected, rtol=1e-12)


def test_distances_survive_a_common_offset(chunks):
    """Clients differ by far less than they all moved; expanding the square loses this in float32."""
    updates = draw(5, size=9, dtype=torch.float64) * 1e-6 + 1000
    distances = robust.squared_distances(updates)
    for i, j in combinations(range(5), 2):
        expected = float(((updates[i] - updates[j]) ** 2).sum())
        assert distances[i, j].item() == distances[j, i].item() == pytest.approx(expected, rel=1e-9)
    assert distances.diagonal().eq(0).all()


def objective(point, updates):
    return np.linalg.norm(updates - point, axis=1).sum()


@pytest.mark.parametrize("seed", range(3))
def test_geometric_median_minimizes_the_sum_of_distances(chunks, seed):
    updates = draw(8, seed=seed, dtype=torch.float64)
    found = geometric_median(updates, iterations=1000, tolerance=1e-9).numpy()
    best = optimize.minimize(objective, updates.numpy().mean(0), args=(updates.numpy(),), tol=1e-12)
    assert objective(found, updates.numpy()) <= best.fun + 1e-9
    np.testing.assert_allclose(found, best.x, atol=1e-4)


def test_geometric_median_leaves_a_client_at_which_it_starts():
    """The mean lies on a client that is not the solution, where Weiszfeld's own iteration would stay."""
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0], [19.0]], dtype=torch.float64)  # mean 5
    updates = torch.cat([line, line.mean(0, keepdim=True)])
    found = geometric_median(updates, iterations=1000)
    assert 2 - 1e-3 <= found.item() <= 3 + 1e-3


@pytest.mark.parametrize("max_norm", [None, 0.5, 2.0, 100.0])
def test_clipping(chunks, max_norm):
    updates = draw(9)
    norms = np.linalg.norm(updates.double().numpy(), axis=1)
    limit = np.median(norms) if max_norm is None else max_norm
    expected = updates.numpy() * np.minimum(1, limit / norms)[:, None]
    np.testing.assert_allclose(clip_norms(updates, max_norm).numpy(), expected, rtol=1e-6)
    short = norms <= limit
    assert torch.equal(clip_norms(updates, max_norm)[short], updates[short])  # bit for bit


def test_clipping_of_nothing():
    assert torch.equal(clip_norms(torch.zeros(3, 2)), torch.zeros(3, 2))


def test_clipping_then_mean_or_another_rule():
    updates = draw(9)
    torch.testing.assert_close(NormClipping(0.5)(updates), clip_norms(updates, 0.5).mean(0))
    assert torch.equal(NormClipping(0.5, Krum(3))(updates), krum(clip_norms(updates, 0.5), 3))


@every_rule
def test_equal_updates_come_out_unchanged(chunks, rule):
    update = draw(1)[0] / 3
    rule = NormClipping(100.0) if rule is RULES[6] else rule
    assert torch.equal(rule(update.expand(10, -1)), update)


@every_rule
def test_the_order_of_clients_does_not_matter(chunks, rule):
    updates, order = draw(), torch.from_numpy(np.random.default_rng(0).permutation(10))
    torch.testing.assert_close(rule(updates[order]), rule(updates), rtol=1e-6, atol=1e-6)


@every_rule
@pytest.mark.parametrize("poison", [1e3, -1e8, 1e30])
def test_two_of_ten_poisoned_clients_change_little(rule, poison):
    """Ten clients agree on a direction; two of them send something else instead."""
    honest = torch.ones(6) + 0.1 * draw()
    poisoned = honest.clone()
    poisoned[[3, 7]] = poison * torch.sign(draw(2, seed=1) + 0.5)
    assert (poisoned.mean(0) - 1).abs().max() > 100  # what the mean makes of it
    result = rule(poisoned)
    if rule in RULES[5:7]:  # clipping bounds a client's influence, it does not end it
        assert (result - 1).abs().max() < 1.5
    else:
        assert (result - 1).abs().max() < 0.2


@every_rule
def test_no_gradient_same_type_and_inputs_kept(rule):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        updates = draw(dtype=torch.float64).to(dtype).requires_grad_()
        before = updates.detach().clone()
        result = rule(updates)
        assert result.dtype == dtype and result.shape == (6,) and not result.requires_grad
        assert torch.equal(updates.detach(), before)
        assert torch.equal(result, rule(updates))


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: TrimmedMean(0.5), "trim=0.5 must be"),
    (lambda: Krum(-1), "byzantine=-1 must be"),
    (lambda: Krum(1, keep=0), "keep=0"),
    (lambda: Krum(4)(draw()), "byzantine=4 needs at least 11 clients that reply .* there are 10"),
    (lambda: Krum(2, keep=9)(draw()), "keep=9 must be from 1 to 8"),
    (lambda: NormClipping(0.0), "max_norm=0.0 must be above 0"),
    (lambda: GeometricMedian(iterations=0), "iterations=0 must be above 0"),
    (lambda: GeometricMedian(smoothing=0.0), "smoothing=0.0 must be above 0"),
    (lambda: CoordinateMedian()(torch.zeros(3)), r"shape \(3,\) must be \(K, P\)"),
    (lambda: TrimmedMean()(torch.zeros(0, 3)), r"shape \(0, 3\) must be"),
])  # fmt: skip
def test_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rules_by_name_in_a_config():
    from jsonargparse import ArgumentParser

    from lkd.federated.server.robust import Rule

    parser = ArgumentParser()
    parser.add_argument("--rule", type=Rule)
    words = ["--rule=NormClipping", "--rule.max_norm=2", "--rule.rule=Krum", "--rule.rule.byzantine=3"]
    made = parser.instantiate_classes(parser.parse_args(words)).rule
    assert isinstance(made, NormClipping) and made.max_norm == 2 and made.rule.byzantine == 3
    words = ["--rule=NearestNeighborMixing", "--rule.byzantine=2", "--rule.rule=Bucketing"]
    made = parser.instantiate_classes(parser.parse_args([*words, "--rule.rule.rule=CoordinateMedian"])).rule
    assert made.byzantine == 2 and made.rule.size == 2 and made.rule.rule.min_clients == 1
