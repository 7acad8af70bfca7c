"""Hooks around a batch's way to the device, of data modules and modules, at the clients."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lkd.callbacks import ClientReport, FeatureDistillation
from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import FedAvg, Federation, FedMD, LocalTraining, Mime
from lkd.federated.engines import Loop, Processes
from lkd.teachers import Teacher

from .quadratic import loader, trainer
from .test_rounds import Samples


class Ones(Dataset):
    """Dict samples of ones."""

    def __init__(self, size=24):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, k):
        return {"image": torch.ones(3), "label": torch.tensor(k % 2)}


class Scaled(LightningDataModule):
    """As torchgeo's: what the hook does depends on the stage, and it needs both entries of a batch."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def train_dataloader(self):
        return DataLoader(Ones(), batch_size=4)

    def val_dataloader(self):
        return DataLoader(Ones(8), batch_size=4)

    def test_dataloader(self):
        return DataLoader(Ones(8), batch_size=4)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        assert batch["image"].shape[0] == len(batch["label"])
        stages = (self.trainer.training, self.trainer.validating or self.trainer.sanity_checking, True)
        scale = (2.0, 3.0, 5.0)[stages.index(True)]
        return {**batch, "image": self.factor * scale * batch["image"]}


class Sees(LightningModule):
    """Logs the mean of the images that it sees in each stage."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = nn.Linear(3, 2), {}

    def forward(self, x):
        images = x["image"]
        self.seen.setdefault("train" if self.training else "eval", set()).add(images.mean().item())
        return self.net(images)

    def training_step(self, batch, batch_idx):
        self.log("train/image", batch["image"].mean())
        return nn.functional.cross_entropy(self(batch), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val/image", batch["image"].mean())

    def test_step(self, batch, batch_idx):
        self.log("test/image", batch["image"].mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def dealt(data=None, **kwargs):
    fractions = {"client_fractions": (0.5, 0.25, 0.25)}
    return FederatedDataModule(data or Scaled(), IID(), clients=2, **{**fractions, **kwargs})


def test_every_stage_sees_its_own_hook(tmp_path):
    data, federation = dealt(), Federation(Sees())
    made = trainer(2, default_root_dir=tmp_path, callbacks=[ClientReport()])
    made.fit(federation, datamodule=data)
    assert federation.students[0].seen == {"train": {2.0}}
    assert float(made.callback_metrics["train/image"]) == 2.0
    assert float(made.callback_metrics["val/image"]) == 3.0  # the global data
    assert float(made.callback_metrics["clients/val/image/mean"]) == 3.0
    measured = federation.evaluate(list(data.clients), "test")
    assert [record.metrics["test/image"] for record in measured] == [5.0, 5.0]
    made.test(federation, datamodule=data)
    assert float(made.callback_metrics["test/image"]) == 5.0


def test_clients_are_measured_as_in_a_validation_where_there_is_none(tmp_path):
    made = trainer(1, default_root_dir=tmp_path, limit_val_batches=0, callbacks=[ClientReport()])
    made.fit(Federation(Sees()), datamodule=dealt())
    assert float(made.callback_metrics["clients/val/image/mean"]) == 3.0


def test_the_gradient_of_all_data_is_of_what_training_sees():
    federation = Federation(Sees(), Mime())
    trainer(1, limit_val_batches=0).fit(federation, datamodule=dealt())
    assert federation.students[0].seen == {"train": {2.0}}


@pytest.mark.parametrize(("public", "scale"), [(0.25, 3.0), (Scaled(7.0), 21.0)])
def test_public_data_are_seen_without_augmentation_by_all(public, scale):
    federation = Federation(Sees(), FedMD(layer="net", batch_size=4, warmup=0))
    data = dealt(public=public, client_fractions=(1.0, 0.0, 0.0))
    trainer(1, limit_val_batches=0).fit(federation, datamodule=data)
    assert federation.students[0].seen["eval"] == {scale}
    assert federation.students[0].seen["train"] == {2.0, scale}
    assert {batch["image"].mean().item() for batch in data.public_dataloader()} == {scale}


class Both(Sees):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "image": 100 * batch["image"]}


class Before(Sees):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch


def test_the_datas_hook_takes_the_place_of_the_modules_as_in_lightning():
    federation, data = Federation(Both()), dealt()
    trainer(1, limit_val_batches=0).fit(federation, datamodule=data)
    assert federation.students[0].seen == {"train": {2.0}}


def test_another_order_than_lightnings_is_refused():
    with pytest.raises(ValueError, match=r"on_after_batch_transfer of the data and on_before_.* of Before"):
        trainer(1).fit(Federation(Before()), datamodule=dealt())


def test_a_hook_that_clients_of_ones_own_would_miss_is_refused():
    class Own(Scaled):
        def train_dataloader(self):
            return loader([Samples(0, 8, 2), Samples(1, 12, 2)])

    with pytest.raises(ValueError, match=r"Own has on_after_batch_transfer\(\)"):
        trainer(1, limit_val_batches=0).fit(Federation(Sees()), datamodule=Own())


class Asks(LightningModule):
    """The module's own hook, which augments only while training goes on."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * 0 + (1.0 if self.trainer.training else 7.0), batch[1]]

    def training_step(self, batch, batch_idx):
        self.log("train/x", batch[0].mean())
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/x", batch[0].mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_modules_hook_is_told_that_a_client_is_measured(tmp_path):
    class Measured(Samples):
        def has(self, part):
            return True

    clients = [Measured(0, 8, 2), Measured(1, 12, 2)]
    seen = []

    class Watch(Federation):
        def on_train_epoch_end(self):
            seen.extend(record.metrics["val/x"] for record in self.evaluate(clients))
            assert self.trainer.training

    trainer(1).fit(Watch(Asks(), FedAvg(), LocalTraining(steps=1)), loader(clients))
    assert seen == [7.0, 7.0]


class Bytes(LightningModule):
    """Takes pictures in bytes, which its own hook flattens and scales."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 2)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0].flatten(1) / 255, batch[1]]

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Pictures(LightningDataModule):
    def train_dataloader(self):
        x = torch.arange(96, dtype=torch.uint8).reshape(16, 2, 3)
        return DataLoader(TensorDataset(x, torch.arange(16) % 2), batch_size=4)


@pytest.mark.parametrize("engine", [Loop, Processes])
def test_distillation_looks_at_a_batch_as_the_clients_own_hook_makes_it(engine):
    distil = FeatureDistillation(Teacher(nn.Linear(6, 3)), {"net": ""}, weight=1.0)
    quick = trainer(1, callbacks=[distil])
    federation = Federation(Bytes(), FedAvg(), engine=engine())
    quick.fit(federation, FederatedDataModule(Pictures(), IID(), clients=2))
    assert not [record.error for record in federation.records if record.error]
    assert quick.callback_metrics["distillation/fitnets"] > 0
