import numpy as np
import pytest
import torch

from lkd.datamodules.modalities.modality_set import ModalitySet


def some(present=None):
    rng = torch.Generator().manual_seed(0)
    x = {"acc": 5 + 3 * torch.randn(6, 2, 4, generator=rng), "image": torch.randn(6, 1, 3, 3, generator=rng)}
    return x, ModalitySet(x, torch.arange(6), present, {"who": list("aabbcc")})


def test_samples_and_batches():
    x, data = some()
    assert len(data) == 6 and data.columns["who"].tolist() == list("aabbcc")
    one, y = data[4]
    assert torch.equal(one["acc"], x["acc"][4]) and y == 4 and "present" not in one
    batch, y = data[[5, 0]]
    assert torch.equal(batch["image"], x["image"][[5, 0]]) and y.tolist() == [5, 0]
    part = data.rows(np.array([1, 3]))
    assert part.columns["label"].tolist() == [1, 3] and part.columns["who"].tolist() == ["a", "b"]
    assert torch.equal(part.x["acc"], x["acc"][[1, 3]])


def test_absent_modalities_are_zeros_and_count_for_nothing():
    there = torch.tensor([True, False, True, True, False, True])
    x, data = some({"acc": there, "image": torch.ones(6, dtype=torch.bool)})
    assert not data.x["acc"][~there].any() and torch.equal(data.x["acc"][there], x["acc"][there])
    known = x["acc"][there].numpy().astype(np.float64)
    moments = data.moments()["acc"]
    assert moments.mean.numpy() == pytest.approx(known.mean((0, 2)))
    assert moments.std.numpy() == pytest.approx(known.std((0, 2)))
    normal = data.normalized(data.moments())
    assert not normal.x["acc"][~there].any()
    assert normal.x["acc"][there].mean((0, 2)).abs().max() < 1e-6
    batch, _ = normal[[1, 2]]
    assert batch["present"]["acc"].tolist() == [False, True]
    none = ModalitySet(x, torch.arange(6), {"acc": torch.zeros(6, dtype=torch.bool)})
    with pytest.raises(ValueError, match="no training sample has acc"):
        none.moments()


def test_a_channel_that_never_changes_stays_finite():
    x = torch.ones(4, 2, 5)
    x[:, 1] = torch.arange(5.0)
    data = ModalitySet({"acc": x}, torch.zeros(4, dtype=torch.int64))
    normal = data.normalized(data.moments()).x["acc"]
    assert not normal[:, 0].any() and normal[:, 1].std(correction=0) == pytest.approx(1)
