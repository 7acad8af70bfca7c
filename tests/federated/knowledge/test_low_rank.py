"""Low-rank factors against NumPy and closed forms."""

import numpy as np
import pytest
import torch

from lkd.federated.knowledge.common.low_rank import compress, rank_of, restore


def matrix(values, p=7, q=9, seed=0):
    """With these singular values."""
    generator = np.random.default_rng(seed)
    u = np.linalg.qr(generator.normal(size=(p, p)))[0][:, : len(values)]
    v = np.linalg.qr(generator.normal(size=(q, q)))[0][:, : len(values)]
    return torch.from_numpy((u * np.array(values)) @ v.T)


@pytest.mark.parametrize(
    ("energy", "k"), [(0.5, 1), (0.64, 1), (0.65, 2), (0.8, 2), (0.85, 3), (0.99, 5), (1.0, 5)]
)
def test_the_smallest_rank_that_keeps_the_energy(energy, k):
    values = torch.tensor([8.0, 4.0, 3.0, 3.0, 2.0**0.5])  # squares 64, 16, 9, 9, 2
    assert rank_of(values, energy) == k
    squares = [v * v for v in values.tolist()]
    by_loop = next(n for n in range(1, 6) if sum(squares[:n]) >= energy * sum(squares) * (1 - 1e-7))
    assert by_loop == k


def test_it_is_the_best_approximation_of_its_rank():
    """Eckart, Young and Mirsky: what is lost are the singular values that were left out."""
    whole = matrix([5.0, 3.0, 1.0, 0.5])
    sent = compress({"w": whole}, 0.97)  # 25 + 9 of 35.25
    assert {n: tuple(t.shape) for n, t in sent.items()} == {"w/left": (7, 3), "w/right": (3, 9)}
    lost = whole - restore(sent, {"w": whole})["w"]
    assert float(lost.square().sum()) == pytest.approx(0.25, rel=1e-9)
    sent = compress({"w": whole}, 0.96)
    assert sent["w/left"].shape == (7, 2)
    lost = whole - restore(sent, {"w": whole})["w"]
    assert float(lost.square().sum()) == pytest.approx(1.25, rel=1e-9)


def test_factors_are_sent_only_where_they_are_smaller():
    whole = matrix([3.0] * 4)  # 4 (7 + 9) = 64 values for 63
    assert compress({"w": whole}, 1.0)["w"] is whole
    smaller = compress({"w": matrix([3.0] * 3)}, 1.0)
    assert sum(t.numel() for t in smaller.values()) == 48


def test_shapes_types_and_what_is_no_matrix():
    kernel = matrix([2.0], 6, 12).float().reshape(6, 3, 2, 2)
    tensors = {"k": kernel, "b": torch.arange(5.0), "n": torch.tensor(3.0), "z": torch.zeros(4, 4)}
    sent = compress(tensors, 0.9)
    assert set(sent) == {"k/left", "k/right", "b", "n", "z/left", "z/right"}
    assert sent["z/left"].nbytes == sent["z/right"].nbytes == 0  # no change costs nothing
    back = restore(sent, tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        torch.testing.assert_close(back[name], tensor)


def test_what_was_not_sent_is_named():
    with pytest.raises(ValueError, match="w was not sent"):
        restore({"v": torch.zeros(2)}, {"w": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"w was sent with 3 values, but has shape \(2,\)"):
        restore({"w": torch.zeros(3)}, {"w": torch.zeros(2)})
