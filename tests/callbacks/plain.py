"""A LightningModule that knows nothing of lkd, as a user would write it."""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Plain(LightningModule):
    def __init__(self, width=16, lr=0.1, classes=10):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes)
        )
        self.lr = lr

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def digits(count=64, batch_size=16, shuffle=False):
    data = load_digits()
    x = torch.tensor(data.images[:count], dtype=torch.float32)[:, None] / 16
    y = torch.tensor(data.target[:count])
    return DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=shuffle)


def quick_trainer(**kwargs):
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return Trainer(**(defaults | kwargs))


def seeded(seed, make):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()
