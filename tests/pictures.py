"""A small convolutional student, and eight pictures."""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Pictures(LightningModule):
    def __init__(self):
        super().__init__()
        self.last = nn.Sequential(nn.Conv2d(3, 32, 8, 8), nn.ReLU())
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.last(x).mean((2, 3)))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def pictures():
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(images, torch.arange(8) % 3), batch_size=8)
