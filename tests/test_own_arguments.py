"""Modules and data modules of a config save their own hyperparameters, at any depth."""

import copy
import io

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd import lightning_cli
from lkd.checkpoints import describe
from lkd.federated import Federation
from lkd.parser import Parser

QUIET = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}


class Net(LightningModule):
    """The commonest idiom: what the module is made of is read from `hparams`; `seed` is the federation's name, too."""

    def __init__(
        self,
        width: int = 16,
        lr: float = 0.1,
        seed: int = 77,
        act: nn.Module = nn.ReLU(),  # noqa: B008
        optimizer: OptimizerCallable = lambda p: torch.optim.SGD(p, 0.1),
    ):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(4, self.hparams.width), act, nn.Linear(width, 2))
        self.make = optimizer

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.body(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Pair(LightningModule):
    """A module that is given two others."""

    def __init__(self, width: int, first: LightningModule, rest: list[LightningModule], **more: int):
        super().__init__()
        self.save_hyperparameters(ignore=["first", "rest"])
        self.first, self.rest = first, nn.ModuleList(rest)


class Based(Net):
    """Its base saves, and reads, what this class does not take."""

    def __init__(self, depth: int = 2):
        super().__init__(width=4 * depth, lr=0.25)


class Named(LightningModule):
    """A base that names what it saves."""

    def __init__(self, rate: float = 0.5):
        super().__init__()
        self.save_hyperparameters("rate")


class Child(Named):
    def __init__(self, layers: list[int] = [1, 2]):  # noqa: B006
        super().__init__()


class Rows(LightningDataModule):
    def __init__(self, batch_size: int = 8, seed: int = 5):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        rows = TensorDataset(torch.randn(24, 4), torch.arange(24) % 2)
        return DataLoader(rows, batch_size=self.hparams.batch_size)


def made(config):
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "module", fail_untyped=False)
    return parser.instantiate(parser.parse_object({"module": config})).module


def net(**args):
    return {"class_path": f"{__name__}.Net", "init_args": args}


def test_every_module_of_a_config_saves_its_own_arguments_as_plain_data():
    args = {"width": 3, "first": net(lr=0.5), "rest": [net(width=8), net(width=9, act="torch.nn.GELU")]}
    pair = made({"class_path": f"{__name__}.Pair", "init_args": args, "dict_kwargs": {"depth": 4}})
    assert pair.hparams["width"] == 3 and pair.hparams["depth"] == 4 and "first" not in pair.hparams
    assert [m.hparams.width for m in (pair.first, *pair.rest)] == [16, 8, 9]
    assert (pair.first.hparams.lr, pair.first.hparams.seed) == (0.5, 77)
    assert pair.rest[1].hparams.act["class_path"] == "torch.nn.GELU"
    assert pair.rest[0].hparams["_class_path"] == f"{__name__}.Net"
    yaml.safe_dump(dict(pair.rest[0].hparams))  # nothing but data


def test_a_base_class_saves_what_it_alone_takes():
    module = made({"class_path": f"{__name__}.Based", "init_args": {"depth": 3}})
    hparams = copy.deepcopy(module).hparams
    assert (hparams.depth, hparams.width, hparams["lr"], hparams.get("seed"), hparams.get("no")) == (
        3,
        12,
        0.25,
        77,
        None,
    )
    assert "lr" in hparams and "no" not in hparams and module.configure_optimizers().defaults["lr"] == 0.25
    assert dict(hparams).keys() == {"depth", "_class_path", "_instantiator"}  # of which it can be made again
    file = io.BytesIO()
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams),
                "pytorch-lightning_version": "2.6.0"}, file)  # fmt: skip
    file.seek(0)
    again = LightningModule.load_from_checkpoint(file, weights_only=True)
    assert torch.equal(again.body[0].weight, module.body[0].weight) and describe(module)["init_args"] == {
        "depth": 3
    }
    assert made({"class_path": f"{__name__}.Child"}).hparams.rate == 0.5


def test_what_is_no_data_is_left_out_and_a_partial_is_what_the_config_says():
    assert "optimizer" not in made(net()).hparams
    given = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.25}}
    assert made(net(optimizer=given)).hparams.optimizer["init_args"]["lr"] == 0.25


def test_a_nested_module_loads_from_a_checkpoint_of_its_own():
    args = {"width": 3, "first": net(width=7, act="torch.nn.GELU"), "rest": []}
    nested = made({"class_path": f"{__name__}.Pair", "init_args": args}).first
    file = io.BytesIO()
    kept = {"state_dict": nested.state_dict(), "hyper_parameters": dict(nested.hparams)}
    torch.save({**kept, "pytorch-lightning_version": "2.6.0"}, file)
    file.seek(0)
    again = LightningModule.load_from_checkpoint(file, weights_only=True)
    assert type(again) is Net and isinstance(again.body[1], nn.GELU)
    assert torch.equal(again.body[0].weight, nested.body[0].weight)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    federation = {"model": net(width=8, lr=0.5), "other_models": [net(width=4), net(width=5)], "seed": 3}
    rows = {"class_path": f"{__name__}.Rows", "init_args": {"batch_size": 4}}
    dealt = {
        "data": rows,
        "partition": "lkd.datamodules.federated.partitions.IID",
        "clients": 3,
        "batch_size": 2,
    }
    (tmp_path / "x.yaml").write_text(
        yaml.safe_dump({
            "model": {"class_path": "lkd.federated.Federation", "init_args": federation},
            "data": {"class_path": "lkd.datamodules.FederatedDataModule", "init_args": dealt},
            "trainer": {**QUIET, "logger": False},
        })
    )  # fmt: skip
    return str(tmp_path / "x.yaml")


def test_clients_of_a_federation_on_the_command_line(config, tmp_path):
    cli = lightning_cli.run(["fit", "--config", config])
    federation = cli.model
    assert federation.model.hparams.lr == 0.5
    assert [m.hparams.width for m in (federation.model, *federation.other_models)] == [8, 4, 5]
    assert all(m.hparams.seed == 77 for m in (federation.model, *federation.other_models))
    assert dict(federation.hparams) == {}  # a resumed run follows its config, not the checkpoint
    assert (cli.datamodule.data.hparams.batch_size, cli.datamodule.data.hparams.seed) == (4, 5)
    file = next(tmp_path.rglob("last.ckpt"))
    loaded = Federation.load_from_checkpoint(
        file, model=Net(8), other_models=[Net(4), Net(5)], weights_only=True
    )
    assert torch.equal(loaded.model.body[0].weight, federation.model.body[0].weight)
    lightning_cli.run(["fit", "--config", config, f"--ckpt_path={file}", "--trainer.max_epochs=2"])
