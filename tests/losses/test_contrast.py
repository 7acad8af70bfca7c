"""Noise-contrastive estimation against the two forms it is published in."""

import numpy as np
import pytest
import torch

from lkd.losses import nce_loss
from lkd.losses.contrast import Embeddings, log_mean_score


def scores(seed, *shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


B, N, M = 3, 4, 50


def test_the_papers_critic():
    positive, negative = scores(0, B), scores(1, B, N)

    def h(score):
        return np.exp(score) / (np.exp(score) + N / M)

    expected = 0.0
    for b in range(B):
        expected -= np.log(h(positive[b].item()))
        expected -= sum(np.log(1 - h(negative[b, k].item())) for k in range(N))
    value = nce_loss(positive, negative, torch.tensor(-np.log(M)))
    assert value.item() == pytest.approx(expected / B, rel=1e-10)


def test_the_authors_normalized_densities_in_which_the_size_of_the_data_cancels():
    positive, negative = scores(0, B), scores(1, B, N)
    both = np.exp(np.concatenate([positive.numpy()[:, None], negative.numpy()], 1))
    for size in (M, 10 * M):
        density = both / (both.mean() * size)
        noise = N / size
        expected = -np.log(density[:, 0] / (density[:, 0] + noise)).mean()
        expected -= np.log(noise / (density[:, 1:] + noise)).sum(1).mean()
        log_noise = log_mean_score(positive, negative, torch.ones_like(negative))
        assert nce_loss(positive, negative, log_noise).item() == pytest.approx(expected, rel=1e-10)


def test_counted_negatives_are_the_same_as_those_alone():
    positive, negative = scores(0, B), scores(1, B, 6)
    counts = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    log_noise = torch.tensor(0.3, dtype=torch.float64)
    rows = [nce_loss(positive[b : b + 1], negative[b : b + 1, counts[b].bool()], log_noise) for b in range(B)]
    torch.testing.assert_close(nce_loss(positive, negative, log_noise, counts), sum(rows) / B)
    one = log_mean_score(positive[:1], negative[:1], counts[:1])
    kept = torch.cat([positive[:1], negative[0, counts[0].bool()]])
    torch.testing.assert_close(one, kept.exp().mean().log())


def test_gradients_pull_positives_together_and_push_negatives_apart():
    positive, negative = scores(0, B).requires_grad_(), scores(1, B, N).requires_grad_()
    log_noise = torch.tensor(0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p, n: nce_loss(p, n, log_noise), (positive, negative))
    nce_loss(positive, negative, log_noise).backward()
    assert (positive.grad < 0).all() and (negative.grad > 0).all()


def test_scores_of_a_low_temperature_and_no_negatives_stay_finite():
    positive = torch.tensor([1 / 0.01], requires_grad=True)
    negative = torch.full((1, 2), -1 / 0.01, requires_grad=True)
    for counts in (None, torch.zeros(1, 2)):
        value = nce_loss(positive, negative, torch.tensor(0.0), counts)
        value.backward()
        assert value.isfinite() and positive.grad.isfinite().all() and negative.grad.isfinite().all()


def test_embeddings_are_unit_vectors_of_the_flattened_features_without_a_graph_to_the_teacher():
    embed = Embeddings(12, 5, 7, torch.Generator().manual_seed(0))
    student = scores(0, B, 3, 2, 2).float().requires_grad_()
    teacher = scores(1, B, 5).float().requires_grad_()
    ours, theirs = embed(student, teacher)
    for x in (ours, theirs):
        torch.testing.assert_close(x.norm(dim=1), torch.ones(B))
    (ours * theirs).sum().backward()
    assert student.grad.any() and teacher.grad is None
    assert embed.student.weight.grad.any() and embed.teacher.weight.grad.any()  # the embedding does learn


def test_shapes_must_fit():
    with pytest.raises(
        ValueError, match=r"positive must be \(B,\) and negative \(B, K\), got \(3,\) and \(4, 2\)"
    ):
        nce_loss(torch.zeros(3), torch.zeros(4, 2), torch.tensor(0.0))
