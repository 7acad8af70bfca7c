import pytest
import torch
from sklearn.datasets import load_digits

from lkd.datamodules import Digits


def test_all_digits_once_in_proportion():
    data = Digits(fractions=(0.5, 0.2, 0.3), seed=3)
    data.setup()
    x = torch.cat([data.datasets[part].tensors[0] for part in ("train", "val", "test")])
    y = torch.cat([data.datasets[part].tensors[1] for part in ("train", "val", "test")])
    pictures, digits = load_digits(return_X_y=True)
    mine = sorted(map(tuple, torch.cat([x.flatten(1) * 16, y[:, None]], 1).long().tolist()))
    assert mine == sorted((*map(int, p), int(d)) for p, d in zip(pictures, digits, strict=True))
    assert x.min() == 0 and x.max() == 1 and x.dtype == torch.float32 and y.dtype == torch.int64
    whole = torch.bincount(y)
    for part, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        counts = torch.bincount(data.datasets[part].tensors[1])
        assert (counts - whole * share).abs().max() <= 1


def test_batches_and_order():
    def order(seed, epoch):
        data = Digits(seed=seed, batch_size=100)
        data.setup()
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert all(isinstance(batch, tuple) for batch in batches)
        return torch.cat([x for x, _ in batches])

    assert torch.equal(order(0, 1), order(0, 1))
    assert not torch.equal(order(0, 1), order(0, 2))
    data = Digits(batch_size=100)
    data.setup()
    x, y = next(iter(data.test_dataloader()))
    assert x.shape == (100, 1, 8, 8) and y.shape == (100,)
    assert isinstance(next(iter(data.val_dataloader())), tuple)


def test_empty_parts():
    data = Digits(fractions=(1.0, 0.0, 0.0))
    data.setup()
    assert len(data.datasets["train"]) == 1797 and data.val_dataloader() == []
    with pytest.raises(ValueError, match="test split is empty"):
        data.test_dataloader()
    with pytest.raises(ValueError, match="fractions="):
        Digits(fractions=(0.5, 0.4, 0.4))
