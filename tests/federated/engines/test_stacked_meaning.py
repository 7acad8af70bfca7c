"""Modules of users whose step means something else in a stack, or keeps something: they end as with the loop."""

import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import FedAvg, Federation, LocalTraining, Mime
from lkd.federated.engines import Auto, Loop, Stacked


class Data(LightningDataModule):
    def setup(self, stage=None):
        x = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(x, (x.sum(1) > 0).long())

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, shuffle=True)


class Own(LightningModule):
    """A user's module: no class of lkd."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
        self.add()

    def add(self):
        pass

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)

    def training_step(self, batch, batch_idx):
        return self.loss(*batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Dropped(Own):
    def add(self):
        self.net = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2)
        )


class Recurrent(Own):
    def add(self):
        self.net = nn.LSTM(2, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def loss(self, x, y):
        return F.cross_entropy(self.head(self.net(x.view(-1, 3, 2))[0][:, -1]), y)


class Logs(Own):
    def add(self):
        self.acc = MulticlassAccuracy(2)

    def loss(self, x, y):
        logits = self.net(x)
        self.log("acc", self.acc(logits, y))
        return F.cross_entropy(logits, y)


class Penalty(Own):
    def loss(self, x, y):
        return super().loss(x, y) + 1e-3 * sum(p.square().sum() for p in self.parameters() if p.requires_grad)


class Reversed(Own):
    def loss(self, x, y):
        hidden = self.net[1](self.net[0](x))
        if hidden.requires_grad:
            hidden.register_hook(lambda grad: -grad)
        return F.cross_entropy(self.net[2](hidden), y)


class HeldWeight(Own):
    def add(self):
        self.regularized = [self.net[0].weight]

    def loss(self, x, y):
        return super().loss(x, y) + 0.1 * sum(p.square().sum() for p in self.regularized)


class OfOptimizer(Own):
    def loss(self, x, y):
        held = self.optimizers().param_groups[0]["params"]
        return super().loss(x, y) + 0.1 * sum(p.square().sum() for p in held)


class BackwardHook(Own):
    def add(self):
        self.net[1].register_full_backward_hook(lambda layer, before, after: (-before[0],))


class Transfers(Own):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        with torch.no_grad():
            return batch[0] + self.net(batch[0])[:, :1], batch[1]


class Draws(Own):
    def loss(self, x, y):
        return super().loss(x, y) * random.random()


class DrawsNumbers(Own):
    def loss(self, x, y):
        return super().loss(x, y) * float(np.random.rand())


class Reseeds(Own):
    def loss(self, x, y):
        torch.manual_seed(3)
        return super().loss(x + torch.randn_like(x), y)


class Counter:
    def __init__(self, start):
        self.value = start


class Counts(Own):
    start = 0

    def add(self):
        self.counter = Counter(self.start)

    def loss(self, x, y):
        self.counter.value += 1
        return super().loss(x, y) / (1 + float(self.counter.value))


class CountsInTensor(Counts):
    def add(self):
        self.start = torch.zeros(())
        super().add()


class CountsInArray(Counts):
    def add(self):
        self.start = np.zeros(1)
        super().add()

    def loss(self, x, y):
        self.counter.value[0] += 1
        return Own.loss(self, x, y) / (1 + float(self.counter.value[0]))


class Remembers(Own):
    def add(self):
        self._losses = {"train": []}

    def loss(self, x, y):
        loss = super().loss(x, y)
        self._losses["train"].append(loss.detach())
        return loss / torch.stack(self._losses["train"][-5:]).mean()


class RemembersLate(Remembers):
    def loss(self, x, y):
        return super().loss(x, y) if self.current_epoch else Own.loss(self, x, y)


def weights(kind, engine, algorithm=FedAvg, clip=None, **options):
    torch.manual_seed(0)
    local = LocalTraining(steps=4, gradient_clip_val=clip)
    federation = Federation(kind(), algorithm(), local, engine=engine, **options)
    data = FederatedDataModule(Data(), IID(), clients=10, seed=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=3, limit_val_batches=0, accelerator="cpu", enable_model_summary=False, **quiet
    )
    trainer.fit(federation, data)
    assert not any(record.error for record in federation.records)
    return federation.state_dict()


def difference(one, other):
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", [Auto, Stacked])
@pytest.mark.parametrize(
    "kind",
    [Logs, Recurrent, Penalty, Reversed, HeldWeight, OfOptimizer, Draws, DrawsNumbers, Reseeds, Counts, CountsInTensor, CountsInArray, Remembers, RemembersLate],
)  # fmt: skip
def test_it_ends_as_with_the_loop(kind, engine):
    assert difference(weights(kind, Loop()), weights(kind, engine())) < 1e-6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "why"),
    [(BackwardHook, "a layer of BackwardHook has backward hooks"), (Transfers, "on_after_batch_transfer of Transfers")],
)  # fmt: skip
def test_what_can_be_seen_before_is_refused_by_stacked_and_left_by_auto(kind, why):
    assert difference(weights(kind, Loop()), weights(kind, Auto())) == 0
    with pytest.raises(ValueError, match=f"engine=Stacked: {why}"):
        weights(kind, Stacked())


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Penalty, "a step of Penalty gives another gradient in a stack than by itself"),
        (Draws, "a step of Draws draws from the generator of Python or NumPy"),
        (Counts, "training changes counter"),
        (Remembers, r"training changes _losses\.train"),
        (Reseeds, "a step of Reseeds gives another gradient"),
    ],
)
def test_why_is_said(kind, why):
    with pytest.warns(UserWarning, match=f"engine=Stacked: clients of {kind.__name__} .* since {why}"):
        weights(kind, Stacked())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [Own, Dropped])
@pytest.mark.parametrize("algorithm", [FedAvg, Mime])
def test_what_means_the_same_is_stacked_all_the_same(kind, algorithm, recwarn):
    weights(kind, Stacked(), algorithm)
    assert [str(w.message) for w in recwarn if "engine=Stacked" in str(w.message)] == []


class Measures(Own):
    """Sets what it finds anew in every step, to the same value."""

    size = None

    def add(self):
        self.size = (6, "features")

    def loss(self, x, y):
        self.size = (int(x.shape[1]), "features")
        return super().loss(x, y)


def test_an_attribute_that_is_set_to_what_it_was_has_not_changed(recwarn):
    weights(Measures, Stacked())
    assert [w for w in recwarn if "changes" in str(w.message) or "engine=Stacked" in str(w.message)] == []


def test_the_loop_warns_of_what_one_client_leaves_to_the_next():
    with pytest.warns(UserWarning, match="Counts changes counter in training"):
        weights(Counts, Loop())


class Fused(Own):
    """Fused steps walk through memory, whatever the strides of weight and gradient."""

    fused = True
    kind = torch.optim.SGD

    def configure_optimizers(self):
        return self.kind(self.parameters(), lr=0.05, fused=self.fused)


class Plain(Fused):
    fused = False


class FusedAdam(Fused):
    kind = torch.optim.AdamW


class PlainAdam(Plain):
    kind = torch.optim.AdamW


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", [Loop, Auto, Stacked])
@pytest.mark.parametrize(("fused", "plain"), [(Fused, Plain), (FusedAdam, PlainAdam)])
def test_a_fused_optimizer_steps_as_the_plain_one(fused, plain, engine):
    assert difference(weights(fused, engine()), weights(plain, Loop())) < 1e-5


class Turned(Plain):
    """Its first weight does not lie row by row, as in a network in channels_last."""

    def add(self):
        self.net[0].weight = nn.Parameter(self.net[0].weight.detach().T.contiguous().T)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_fused_optimizer_of_the_server_steps_as_the_plain_one(kind):
    plain, fused = (
        weights(Turned, Loop(), server_optimizer=partial(kind, lr=0.1, fused=fused))
        for fused in (False, True)
    )
    assert difference(plain, fused) < 1e-6


class HeadAlone(Own):
    def configure_optimizers(self):
        return torch.optim.SGD(self.net[2].parameters(), lr=0.1)


class Detached(HeadAlone):
    """The same training, where the rest has no gradient at all."""

    def add(self):
        self.net[0].requires_grad_(False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", [Loop, Stacked])
def test_clipping_counts_what_the_optimizer_has(engine):
    """A weight that is not in the optimizer keeps its gradient from step to step, and did count."""
    head, rest = (weights(kind, engine(), clip=0.05) for kind in (HeadAlone, Detached))
    assert difference(head, rest) < 1e-7
