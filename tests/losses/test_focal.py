"""The focal part of FGD in loops."""

import numpy as np
import pytest
import torch

from lkd.losses import box_masks, focal_loss
from lkd.losses.focal import attention


def maps(seed, *shape):
    shape = shape or (2, 3, 4, 5)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASKS = box_masks([torch.tensor([[3.0, 5.0, 21.0, 12.0]]), torch.zeros(0, 4)], (4, 5), (8.0, 8.0))


def reference_attention(x, temperature):
    channels, height, width = x.shape
    where = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            where[i, j] = np.exp(np.mean(np.abs(x[:, i, j])) / temperature)
    which = np.array([np.exp(np.mean(np.abs(x[c])) / temperature) for c in range(channels)])
    return where / where.sum() * height * width, which / which.sum() * channels


def reference(student, teacher, temperature, alpha, beta, gamma):
    total = 0.0
    for b in range(2):
        s, t = student[b].numpy(), teacher[b].numpy()
        where, which = reference_attention(t, temperature)
        our_where, our_which = reference_attention(s, temperature)
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    share = alpha * MASKS[0][b, i, j].item() + beta * MASKS[1][b, i, j].item()
                    total += share * where[i, j] * which[c] * (t[c, i, j] - s[c, i, j]) ** 2
        total += gamma * (np.abs(where - our_where).sum() + np.abs(which - our_which).sum())
    return total / 2


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1e-3, 5e-4, 1e-3)])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_in_loops(weights, temperature):
    student, teacher = maps(0), maps(1)
    value = focal_loss(student, teacher, MASKS, temperature, *weights)
    assert value.item() == pytest.approx(reference(student, teacher, temperature, *weights), rel=1e-6)


def test_attention_has_mean_one_and_is_large_where_the_map_is():
    features = maps(0)
    features[:, 1, 2, 3] = 30
    where, which = attention(features)
    assert where.shape == (2, 1, 4, 5) and which.shape == (2, 3, 1, 1)
    torch.testing.assert_close(where.mean((2, 3)), torch.ones(2, 1, dtype=torch.float64))
    torch.testing.assert_close(which.mean(1), torch.ones(2, 1, 1, dtype=torch.float64))
    assert (where.flatten(1).argmax(1) == 2 * 5 + 3).all() and (which.flatten(1).argmax(1) == 1).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r"temperature=.* must be above 0"):
        focal_loss(maps(0), maps(1), MASKS, 0.0)
    with pytest.raises(ValueError, match="pass the term's adapter"):
        focal_loss(maps(0), maps(1, 2, 4, 4, 5), MASKS)
