"""`HeadReport` against accuracies counted by hand."""

import csv

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import HeadReport
from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import MHD, Federation, Local, LocalTraining
from lkd.federated.topology import Ring
from tests.callbacks.plain import Plain, digits, seeded
from tests.federated.peers.small import Blobs, data, module
from tests.federated.quadratic import trainer


def run(tmp_path, algorithm=None, rounds=2, client=None, **kwargs):
    report = HeadReport(folder=str(tmp_path / "report"), **kwargs)
    federation = Federation(
        client or module(), algorithm or MHD(Ring(), batch_size=4), LocalTraining(steps=3)
    )
    shards = data(4)
    trainer(rounds, limit_val_batches=0, callbacks=[report], default_root_dir=tmp_path).fit(
        federation, shards
    )
    return report, federation, shards


def test_betas_are_those_counted_by_hand(tmp_path):
    report, federation, shards = run(tmp_path)
    x, y = Blobs()._data(1)[:]
    counts = shards.label_counts()
    rows = {(row["client"], row["head"]): row for row in report.rows}
    assert len(rows) == 4 * 3
    for client, net in federation.models([shards.clients[i] for i in range(4)]):
        assert not net.training
        with torch.no_grad():
            embedding = net.network.embedding(net.network.backbone(x))
            for head, layer in enumerate(net.network.heads):
                right = (layer(embedding).argmax(1) == y).numpy()
                by_class = np.array([right[(y == c).numpy()].mean() for c in range(3)])
                share = counts[client.id] / counts[client.id].sum()
                row = rows[client.id, head]
                assert row["beta_sh"] == pytest.approx(by_class.mean(), rel=1e-6)
                assert row["beta_priv"] == pytest.approx((share * by_class).sum(), rel=1e-6)


def test_the_table_is_written_and_the_means_are_logged(tmp_path):
    report, federation, _ = run(tmp_path)
    with (tmp_path / "report" / "heads.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == len(report.rows) == 12
    mean = np.mean([row["beta_sh"] for row in report.rows if row["head"] == 1])
    assert federation.trainer.callback_metrics["heads/1/beta_sh"].item() == pytest.approx(mean, rel=1e-6)


def test_measuring_changes_nothing(tmp_path):
    def weights(every):
        _, federation, shards = run(tmp_path, rounds=3, every=every)
        return [
            torch.cat([p.detach().flatten() for p in net.parameters()])
            for _, net in federation.models([shards.clients[i] for i in range(4)])
        ]

    for often, once in zip(weights(1), weights(3), strict=True):
        assert torch.equal(often, once)


def test_other_modules_are_measured_by_their_output(tmp_path):
    report, *_ = run(tmp_path, Local(), layers=[""])
    assert {row["head"] for row in report.rows} == {0}


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every=0 must be 1 or more"):
        HeadReport(every=0)
    with pytest.raises(ValueError, match="part='train' must be"):
        HeadReport(part="train")
    with pytest.raises(ValueError, match="HeadReport measures the clients of a Federation, not"):
        HeadReport().setup(trainer(1), LightningModule(), "fit")
    with pytest.raises(ValueError, match="part='test': the data have none"):
        run(tmp_path, part="test")


class Raw(Plain):
    """A user's module for pixels from 0 to 100, which the hook, the step or nobody scales."""

    def __init__(self, scaled_by):
        super().__init__()
        self.scaled_by = scaled_by

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] / 100, batch[1]] if self.scaled_by == "hook" else batch

    def training_step(self, batch, batch_idx):
        return super().training_step(self.scaled(batch), batch_idx)

    def validation_step(self, batch, batch_idx):
        x, y = self.scaled(batch)
        self.log("val/acc", (self(x).argmax(1) == y).float().mean())

    def scaled(self, batch):
        return [batch[0] / 100, batch[1]] if self.scaled_by == "step" else batch


class Pixels(LightningDataModule):
    def __init__(self, factor, hook=False):
        super().__init__()
        self.factor, self.hook = factor, hook

    def loader(self, which):
        x, y = digits(400).dataset.tensors
        return DataLoader(TensorDataset(x[which::2] * self.factor, y[which::2]), batch_size=16)

    def train_dataloader(self):
        return self.loader(0)

    def val_dataloader(self):
        return self.loader(1)


class HookedPixels(Pixels):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] / 100, batch[1]]


@pytest.mark.parametrize(
    ("scaled_by", "pixels"), [("hook", Pixels), ("step", Pixels), ("nobody", HookedPixels)]
)
def test_heads_are_measured_on_what_the_module_is_given(tmp_path, scaled_by, pixels):
    def betas(module, shown):
        report = HeadReport(folder=str(tmp_path))
        shards = FederatedDataModule(shown, IID(), clients=2)
        quick = trainer(3, callbacks=[report], default_root_dir=tmp_path, num_sanity_val_steps=0)
        quick.fit(Federation(module, Local(), LocalTraining(epochs=4)), shards)
        return [row[name] for row in report.rows for name in ("beta_priv", "beta_sh")]

    plain = betas(seeded(0, lambda: Raw("nobody")), Pixels(1))
    assert min(plain) > 0.5  # of ten classes
    assert betas(seeded(0, lambda: Raw(scaled_by)), pixels(100)) == pytest.approx(plain, abs=1e-6)
