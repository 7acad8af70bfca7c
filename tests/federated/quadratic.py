"""Clients with quadratic losses, whose optimum and whose rounds are known in closed form."""

from itertools import combinations

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from lkd.federated import Federation
from lkd.federated.protocol.seeds import derive


class Quadratic(LightningModule):
    """f(x) = mean over a batch's rows (h, e) of h/2 ||x - e||^2."""

    def __init__(self, size=1, lr=0.05, momentum=0.0, start=0.0, optimizer=None):
        super().__init__()
        self.x = nn.Parameter(torch.full((size,), start, dtype=torch.float64))
        self.lr, self.momentum, self.make = lr, momentum, optimizer

    def training_step(self, batch, batch_idx):
        h, e = batch
        loss = (0.5 * h * (self.x - e).square().sum(1)).mean()
        self.log("loss", loss, batch_size=len(h))
        return loss

    def configure_optimizers(self):
        if self.make is not None:
            return self.make(self.parameters())
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


class Point:
    """A client that holds rows (h, e); `batch` rows a batch, drawn with or without replacement."""

    def __init__(self, id, rows, population, batch=None, replace=False, probability=1.0, share=None):
        self.id, self.name, self.population = id, f"client{id}", population
        self.h = torch.tensor([float(h) for h, _ in rows], dtype=torch.float64)
        self.e = torch.tensor([e for _, e in rows], dtype=torch.float64).reshape(len(rows), -1)
        self.num_samples, self.share, self.probability = len(rows), share or 1 / population, probability
        self.batch, self.replace = batch or len(rows), replace

    def num_batches(self):
        return -(-len(self.h) // self.batch)

    def train_batches(self, seed):
        g = torch.Generator().manual_seed(derive(seed, 0))
        n = len(self.h)
        order = torch.randint(n, (n,), generator=g) if self.replace else torch.randperm(n, generator=g)
        for chunk in order.split(self.batch):
            yield self.h[chunk], self.e[chunk]

    def ordered_batches(self, part):
        yield from zip(self.h.split(self.batch), self.e.split(self.batch), strict=True)

    def has(self, part):
        return part == "train"

    def pooled(self, others):
        rows = [(float(h), e.tolist()) for c in (self, *others) for h, e in zip(c.h, c.e, strict=True)]
        return Point(self.id, rows, 1, replace=self.replace)


class Cohorts(DistributedSampler):
    """All clients every round, or `size` of them; the same on every rank. `per_epoch` rounds make an epoch."""

    def __init__(self, clients, size=None, seed=0, per_epoch=1):
        super().__init__(clients, num_replicas=1, rank=0, seed=seed)
        self.size, self.per_epoch = size or len(clients), per_epoch

    def __iter__(self):
        for i in range(self.per_epoch):
            g = torch.Generator().manual_seed(derive(self.seed, self.epoch, i))
            yield sorted(torch.randperm(len(self.dataset), generator=g)[: self.size].tolist())

    def __len__(self):
        return self.per_epoch


class Turns(Cohorts):
    """Every cohort of `size` clients equally often: what chance gives in the long run, without its noise."""

    def __iter__(self):
        every = list(combinations(range(len(self.dataset)), self.size))
        for i in range(self.per_epoch):
            g = torch.Generator().manual_seed(derive(self.seed, self.epoch, i // len(every)))
            yield list(every[torch.randperm(len(every), generator=g)[i % len(every)]])


class Clients(list):
    def __getitem__(self, ids):
        return (
            [super(Clients, self).__getitem__(i) for i in ids]
            if isinstance(ids, list)
            else super().__getitem__(ids)
        )


def loader(clients, size=None, seed=0, per_epoch=1, cohorts=Cohorts):
    clients = Clients(clients)
    sampler = cohorts(clients, size, seed, per_epoch)
    return DataLoader(clients, sampler=sampler, batch_size=None, collate_fn=list)


def trainer(rounds, **kwargs):
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(max_epochs=rounds, **{**defaults, **kwargs})


def two_clients():
    """h = (1, 4), e = (0, 1), with optimum 0.8."""
    return [Point(0, [(1, 0.0)], 2), Point(1, [(4, 1.0)], 2)]


def run(
    algorithm,
    rounds,
    clients=None,
    local=None,
    module=None,
    size=None,
    seed=0,
    trainer_args=None,
    cohorts=Cohorts,
    **kwargs,
):
    """Runs a federation, all rounds in one epoch, which costs less; returns it."""
    federation = Federation(module or Quadratic(), algorithm, local, seed=seed, **kwargs)
    data = loader(clients or two_clients(), size, seed, rounds, cohorts)
    trainer(1, **(trainer_args or {})).fit(federation, data)
    return federation
