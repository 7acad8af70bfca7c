"""A pruned checkpoint makes the module of its configuration narrow again, anywhere; what is in it is only data."""

import copy
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lkd.edge.compress.student import student, write
from lkd.models import CNN
from lkd.modules import Classifier
from lkd.pruned import KEY, describe, remember, replay, resize

X = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def dense(seed=0):
    torch.manual_seed(seed)
    return Classifier(CNN(8, 3, channels=[6], in_channels=1), num_classes=3)


def narrow():
    """Two of six channels, without any library."""
    module = dense()
    before = copy.deepcopy(module)
    conv, linear = module.network.layers[0], module.network.layers[4]
    resize(module, "network.layers.0.weight", conv.weight[:2])
    resize(module, "network.layers.0.bias", conv.bias[:2])
    resize(module, "network.layers.4.weight", linear.weight[:, :32])
    conv.out_channels, linear.in_features = 2, 32
    remember(module, describe(module, before))
    return module


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "pruned.ckpt"
    torch.save(
        {"state_dict": dense().state_dict(), "pytorch-lightning_version": "2.6.0"}, tmp_path / "x.ckpt"
    )
    write(narrow(), path, like=tmp_path / "x.ckpt")
    return path


def test_the_same_bit_for_bit_in_another_process(saved, tmp_path):
    code = (
        f"import torch; from tests.test_pruned import X, dense; from lkd.edge.compress.student import student\n"
        f"torch.save(student(dense(1), {str(saved)!r}).eval()(X), {str(tmp_path / 'y.pt')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.equal(torch.load(tmp_path / "y.pt"), narrow().eval()(X))


def test_lightning_reads_it_too_and_checkpoints_after_it_say_so(saved, tmp_path):
    module = Classifier.load_from_checkpoint(
        saved, network=dense(1).network, num_classes=3, weights_only=True
    )
    assert torch.equal(module.eval()(X), narrow().eval()(X))
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(copy.deepcopy(module))
    trainer.save_checkpoint(tmp_path / "later.ckpt")
    assert torch.load(tmp_path / "later.ckpt", weights_only=True)[KEY] == getattr(narrow(), KEY)
    assert student(dense(2), tmp_path / "later.ckpt").network.layers[0].out_channels == 2


class Own(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = dense().network

    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = 1


def test_any_module_and_its_own_hook(saved):
    module = student(Own(), saved)
    checkpoint = {}
    copy.deepcopy(module).on_save_checkpoint(checkpoint)
    assert checkpoint["mine"] == 1 and checkpoint[KEY] == getattr(narrow(), KEY)


def test_a_checkpoint_without_pruning_changes_nothing():
    module = dense()
    replay(module, {})
    assert not hasattr(module, KEY) and module.network.layers[0].out_channels == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(version=9), "in the form 9, and this version of lkd reads form 1"),
        (lambda h: h.update(tensors=[1]), "entry 'pruning' is damaged"),
        (lambda h: h["numbers"].update(network=[1]), "entry 'pruning' is damaged"),
        (lambda h: h["tensors"].update(strange=[1]), "a tensor 'strange', which Classifier does not have"),
        (lambda h: h["tensors"].update({"network.layers.0.bias": [7]}), r"leaves 'network.layers.0.bias' the shape \[7\]"),
        (lambda h: h["tensors"].update({"network.layers.0.bias": [0]}), r"the shape \[0\]"),
        (lambda h: h["tensors"].update({"network.layers.0.bias": [1, 1]}), r"the shape \[1, 1\]"),
        (lambda h: h["numbers"].update({"network.layers.0": {"training": 1}}), "sets training of 'network.layers.0'"),
        (lambda h: h["numbers"].update({"network.layers.0": {"out_channels": 99}}), "sets out_channels .* to 99"),
        (lambda h: h["numbers"].update({"nowhere": {"groups": 1}}), "sets groups of 'nowhere'"),
        (lambda h: h["split"].append("network"), "block 'network' was split, and Classifier has no C2f block there"),
    ],
)  # fmt: skip
def test_a_history_is_checked_before_it_is_applied(change, words):
    history = copy.deepcopy(getattr(narrow(), KEY))
    change(history)
    module = dense()
    with pytest.raises(ValueError, match=words):
        replay(module, {KEY: history})
    assert module.network.layers[0].out_channels == 6 and module(X).shape == (3, 3)


def test_another_configuration_is_refused(saved):
    with pytest.raises(ValueError, match="give the configuration that it was trained by"):
        student(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 3), saved)
