"""Checkpoints that lkd did not make: each is told what to do, none is unpickled."""

import pickle
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.modules import Classifier
from lkd.teachers import Teacher


class Module(LightningModule):
    def __init__(self, backbone=None, lr=0.1, options=None):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Linear(3, 2) if backbone is None else backbone

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Options:
    """A user's own class."""


def checkpoint(path, module, **kwargs):
    trainer = Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", max_steps=1, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(4, 3)), batch_size=2))
    trainer.save_checkpoint(path)
    return str(path)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({}, r"does not say which LightningModule.*Teacher\(YourModule.load_from_checkpoint\(path\)\)"),
        (
            {"backbone": nn.Linear(3, 2)},
            r"holds Python objects.*load_from_checkpoint\(path, weights_only=False\)",
        ),
        ({"options": Options()}, r"holds Python objects.*load_from_checkpoint\(path, weights_only=False\)"),
        ({"options": {"p": Path("x")}}, r"load_from_checkpoint\(path"),
    ],
)
def test_a_plain_checkpoint_says_how_it_can_teach(tmp_path, kwargs, words):
    path = checkpoint(tmp_path / "x.ckpt", Module(**kwargs))
    with pytest.raises(ValueError, match=words) as caught:
        Teacher(path)
    assert "\n" not in str(caught.value)
    teacher = Teacher(
        Module.load_from_checkpoint(path, weights_only=False)
    )  # which is what the sentence says
    assert teacher(torch.ones(2, 3)).shape == (2, 2)


def test_a_path_may_be_a_path(tmp_path):
    path = Path(checkpoint(tmp_path / "x.ckpt", Module()))
    with pytest.raises(ValueError, match="does not say which LightningModule"):
        Teacher(path)


def test_a_checkpoint_of_the_other_package(tmp_path):
    other = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")

    class Theirs(other.LightningModule):
        def __init__(self, width=2):
            super().__init__()
            self.save_hyperparameters()
            self.body = nn.Linear(3, width)

        def forward(self, x):
            return self.body(x)

    module = Theirs()
    trainer = other.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(module)
    path = str(tmp_path / "x.ckpt")
    trainer.save_checkpoint(path)
    with pytest.raises(ValueError, match=r"does not say which LightningModule.*load_from_checkpoint"):
        Teacher(path)
    x = torch.ones(2, 3)
    assert torch.equal(Teacher(Theirs.load_from_checkpoint(path))(x), module(x).detach())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is no checkpoint, or it is damaged"),
        (b"not a checkpoint", r"is no checkpoint, or it is damaged"),
        ({"weight": torch.zeros(2)}, "holds weights without their network.*load_state_dict"),
        ({"module.weight": torch.zeros(2)}, "holds weights without their network.*load_state_dict"),
        (torch.zeros(2), "is no Lightning checkpoint but a Tensor"),
        ({"epoch": 3}, "is no Lightning checkpoint but a dict"),
        (nn.Linear(2, 2), "holds Python objects"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, content, words):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=words) as caught:
        Teacher(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_a_folder_and_an_old_format(tmp_path):
    path = checkpoint(tmp_path / "x.ckpt", Module())
    whole = Path(path).read_bytes()
    for size in (1, 100, len(whole) // 2, len(whole) - 10):
        Path(path).write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is no checkpoint, or it is damaged"):
            Teacher(path)
    (tmp_path / "folder.ckpt").mkdir()
    with pytest.raises(ValueError, match="is a folder, as sharded checkpoints are"):
        Teacher(str(tmp_path / "folder.ckpt"))
    torch.save(
        {"state_dict": {}, "hyper_parameters": {"x": Options()}}, path, _use_new_zipfile_serialization=False
    )
    with pytest.raises(ValueError, match="holds Python objects"):
        Teacher(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Teacher(str(tmp_path / "nowhere.ckpt"))


def test_nothing_in_a_checkpoint_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = str(tmp_path / "x.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"a": Evil()}}, path)
    Path(tmp_path / "y.ckpt").write_bytes(pickle.dumps(Evil()))
    for each in (path, str(tmp_path / "y.ckpt")):
        with pytest.raises(ValueError, match=r"x.ckpt|y.ckpt"):
            Teacher(each)
    assert not (tmp_path / "ran").exists()


def saved_by_the_command_line(path, class_path, state):
    hparams = {
        "_class_path": class_path,
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "network": "test_resnet",
        "num_classes": 3,
    }
    torch.save(
        {
            "state_dict": state,
            "hyper_parameters": hparams,
            "pytorch-lightning_version": "2.6.0",
            "hparams_name": "kwargs",
            "epoch": 0,
            "global_step": 0,
            "loops": None,
        },
        path,
    )


def test_weights_that_do_not_fit_their_class_and_classes_that_are_not_there(tmp_path):
    path, state = str(tmp_path / "x.ckpt"), Classifier("test_resnet", 3).state_dict()
    saved_by_the_command_line(path, "lkd.modules.Classifier", {f"module.{k}": v for k, v in state.items()})
    with pytest.raises(
        ValueError, match=r"is of a lkd.modules.Classifier, which could not be made.*Missing key"
    ):
        Teacher(path)
    saved_by_the_command_line(path, "nowhere.Module", state)
    with pytest.raises(ValueError, match=r"names nowhere.Module, .* allow it by trust=\['nowhere'\]"):
        Teacher(path)
    with pytest.raises(
        ValueError, match=r"is of a nowhere.Module, which could not be made from it \(.*\); give the"
    ):
        Teacher(path, trust=["nowhere"])
