"""The classifier of multi-headed distillation: heads on one embedding, of which only the main one has labels."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.models import MultiHead
from lkd.modules import MultiHeadClassifier


def backbone():
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())


def make(**kwargs):
    torch.manual_seed(0)
    return MultiHeadClassifier(backbone(), num_classes=3, heads=2, embedding=5, example=[1, 4, 4], **kwargs)


def data(n=12):
    g = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(n, 1, 4, 4, generator=g), torch.arange(n) % 3)


def test_heads_share_one_embedding_of_averaged_maps():
    net = make().network
    x = data()[:][0]
    features = net.backbone(x).mean((2, 3))
    embedding = features @ net.embedding.weight.T + net.embedding.bias
    for answer in (0, 1, 2, -1):
        net.answer = answer
        head = list(net.heads)[answer]
        assert torch.allclose(net(x), embedding @ head.weight.T + head.bias, atol=1e-6)


@pytest.mark.parametrize("answer", [0, -1])
def test_only_the_main_head_learns_from_labels(answer):
    module = make(answer=answer)
    module.log = lambda *args, **kwargs: None
    x, y = data()[:]
    loss = module.training_step((x, y))
    main = module.network.heads[0](module.network.embedding(module.network.backbone(x).mean((2, 3))))
    assert torch.allclose(loss, F.cross_entropy(main, y))
    loss.backward()
    assert module.network.heads[0].weight.grad is not None
    assert all(head.weight.grad is None for head in list(module.network.heads)[1:])


def test_validation_measures_every_head():
    module = make(answer=-1)
    loader = DataLoader(data(), batch_size=5)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    (found,) = trainer.validate(module, loader, verbose=False)
    x, y = data()[:]
    embedding = module.network.embedding(module.network.backbone(x).mean((2, 3)))
    for i, head in enumerate(module.network.heads):
        expected = (head(embedding).argmax(1) == y).float().mean().item()
        assert found[f"val/acc_head{i}"] == pytest.approx(expected)
    assert found["val/acc"] == found["val/acc_head2"]


def test_a_checkpoint_loads_with_its_backbone(tmp_path):
    module = make()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data(), batch_size=4))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = MultiHeadClassifier.load_from_checkpoint(
        tmp_path / "x.ckpt", backbone=backbone(), num_classes=3, heads=2, embedding=5, example=[1, 4, 4]
    )
    x = data()[:][0]
    assert torch.equal(again.cpu()(x), module(x))


def test_the_widths_are_found_without_moving_statistics():
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6))
    MultiHead(net, classes=3, example=[1, 4, 4])
    assert net[1].num_batches_tracked == 0
    assert net.training


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"heads": -1}, "heads=-1 must be 0 or more"),
        ({"answer": 2}, "answer=2: there is a main head"),
        ({"embedding": 0}, "embedding=0 must be 1 or more"),
        ({"example": [3, 4, 4]}, "does not take an input of shape"),
    ],
)
def test_bad_input_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MultiHead(backbone(), classes=3, **{"example": [1, 4, 4], **kwargs})


def test_a_backbone_that_gives_no_features_is_refused():
    with pytest.raises(ValueError, match=r"must give features \(B, F\) or \(B, F, H, W\), not \(1, 3, 16\)"):
        MultiHead(nn.Flatten(2, 3), classes=3, example=[3, 4, 4])
