"""What the loop refuses of a client's batches, a stack refuses, too, and of that client alone."""

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import Federation, LocalTraining
from lkd.federated.engines import Loop, Stacked
from lkd.models import MLP
from lkd.modules import Classifier

from ..quadratic import trainer

CALLS = []


class Counted(Classifier):
    """Counts the calls of its step."""

    def training_step(self, batch, batch_idx=0):
        CALLS.append(batch_idx)
        return super().training_step(batch, batch_idx)


class Unread(Dataset):
    """Samples whose labels nobody knows before they are read; that of sample 37 is wrong."""

    def __init__(self, label):
        self.x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        self.y = torch.arange(60) % 3
        self.y[37] = label

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Data(LightningDataModule):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def train_dataloader(self):
        return DataLoader(Unread(self.label), batch_size=3)


def errors(engine, label, criterion):
    torch.manual_seed(0)
    CALLS.clear()
    module = Counted(MLP(4, 3), 3, criterion=criterion, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    federation = Federation(module, local=LocalTraining(epochs=1), engine=engine)
    trainer(2).fit(federation, FederatedDataModule(Data(label), IID(), clients=6))
    return {r.client: r.error for r in federation.records if r.error}, federation.state_dict()


@pytest.mark.parametrize(
    ("label", "criterion"),
    [(-100, None), (3, nn.CrossEntropyLoss(ignore_index=3)), (3, None), (-1, nn.MultiMarginLoss())],
)
def test_labels_that_a_loss_would_pass_over(label, criterion):
    found, weights = errors(Stacked(), label, criterion)
    calls = len(CALLS)
    expected, others = errors(Loop(), label, criterion)
    assert found == expected and len(found) == 1
    assert "num_classes is 3, so they must be from 0 to 2" in next(iter(found.values()))
    for name, value in weights.items():  # the other five are averaged
        torch.testing.assert_close(value, others[name], rtol=0, atol=1e-6)
    if label == -100:  # and no client was trained again for it
        assert calls < len(CALLS)
