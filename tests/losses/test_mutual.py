"""Deep mutual learning against its equations in loops, and where its gradient flows."""

import numpy as np
import pytest
import torch

from lkd.losses import mutual_losses

B, C = 5, 4
LABELS = torch.tensor([0, 3, 1, 1, 2])


def logits(seed, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(B, C, generator=generator, dtype=torch.float64)


def probabilities(z, temperature=1.0):
    e = np.exp(np.asarray(z) / temperature)
    return e / e.sum(1, keepdims=True)


def reference(peers, k, temperature=1.0):
    """Equations 5 to 8, sample by sample and class by class; T² is 1 in the paper."""
    hard = soft = 0.0
    for i in range(B):
        hard -= np.log(probabilities(peers[k])[i, LABELS[i]])
        for j in range(len(peers)):
            if j == k:
                continue
            p_j, p_k = (probabilities(peers[n], temperature)[i] for n in (j, k))
            divergence = sum(p_j[m] * np.log(p_j[m] / p_k[m]) for m in range(C))
            soft += temperature**2 * divergence / (len(peers) - 1)
    return (hard + soft) / B


@pytest.mark.parametrize(("count", "temperature"), [(2, 1.0), (3, 1.0), (4, 1.0), (3, 4.0)])
def test_in_loops(count, temperature):
    peers = [logits(seed) for seed in range(count)]
    losses = mutual_losses(peers, LABELS, temperature)
    expected = [reference([p.numpy() for p in peers], k, temperature) for k in range(count)]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)


def test_no_gradient_through_the_others():
    """d L_k / d z_k = (p_k - onehot + mean of (p_k - p_l)) / B, and d L_k / d z_l = 0."""
    peers = [logits(seed).requires_grad_() for seed in range(3)]
    losses = mutual_losses(peers, LABELS)
    for k in range(3):
        own, *others = torch.autograd.grad(
            losses[k],
            [peers[k], *(p for j, p in enumerate(peers) if j != k)],
            retain_graph=True,
            allow_unused=True,
        )
        assert all(gradient is None or not gradient.any() for gradient in others)
        p = [probabilities(each.detach()) for each in peers]
        pull = sum(p[k] - p[j] for j in range(3) if j != k) / 2
        np.testing.assert_allclose(own.numpy(), (p[k] - np.eye(C)[LABELS] + pull) / B, atol=1e-14)


def test_gradcheck():
    fixed = [logits(1), logits(2)]
    assert torch.autograd.gradcheck(
        lambda z: mutual_losses([z, *fixed], LABELS)[0], (logits(0).requires_grad_(),)
    )


def test_identical_peers_pay_the_cross_entropy_alone():
    z = logits(0)
    losses = mutual_losses([z, z.clone(), z + 7.0], LABELS)  # a softmax does not see an offset
    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(z, LABELS).expand(3))


def test_half_precision_is_raised():
    losses = mutual_losses([logits(0).bfloat16(), logits(1).bfloat16()], LABELS)
    assert losses.dtype == torch.float32


def test_bad_input():
    with pytest.raises(ValueError, match="at least 2 peers, got logits of 1"):
        mutual_losses([logits(0)], LABELS)
    with pytest.raises(ValueError, match="4 classes, teacher 3"):
        mutual_losses([logits(0), logits(1)[:, :3]], LABELS)
    with pytest.raises(ValueError, match=r"temperature=.* must be above 0"):
        mutual_losses([logits(0), logits(1)], LABELS, temperature=0.0)
