"""A line an epoch, with what was logged in it."""

import torch
from lightning.pytorch import LightningModule

from lkd.callbacks import EpochLines
from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import Federation
from lkd.modules import Classifier

from .plain import quick_trainer


class Logs(LightningModule):
    """Logs a loss each epoch and a metric where it is validated."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        self.log("train/loss", 2.0, prog_bar=True)
        self.log("train/other", 9.0)
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/acc", 0.25, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_line_an_epoch_has_no_metric_of_an_earlier_one(capsys):
    data = torch.utils.data.DataLoader([0, 1])
    options = {"max_epochs": 2, "check_val_every_n_epoch": 2, "num_sanity_val_steps": -1}
    quick_trainer(callbacks=[EpochLines()], **options).fit(Logs(), data, data)
    first, *lines = capsys.readouterr().out.splitlines()
    lines = [line.rpartition(" (")[0] for line in lines if "epoch" in line]
    assert first == "before training: val/acc 0.250" and lines == [
        "epoch 1/2: train/loss 2.000",
        "epoch 2/2: train/loss 2.000, val/acc 0.250",
    ]


def test_the_run_has_its_name_before_each_line_where_others_print_beside_it(capsys):
    data = torch.utils.data.DataLoader([0])
    quick_trainer(callbacks=[EpochLines(name="twin")], max_epochs=1).fit(Logs(), data)
    assert "twin: epoch 1/1: train/loss 2.000 (" in capsys.readouterr().out


def test_a_federation_counts_rounds(capsys):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    data = FederatedDataModule(Digits(batch_size=256), IID(), clients=2)
    trainer = quick_trainer(max_epochs=2, limit_val_batches=0, callbacks=[EpochLines()])
    trainer.fit(Federation(Classifier(net)), data)
    said = capsys.readouterr().out
    assert "round 1/2:" in said and "round 2/2:" in said
