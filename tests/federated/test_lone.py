"""A batch of one sample under a layer that normalizes over the batch: refused where it is not defined, and nowhere else."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import FederatedDataModule, FixedSampler, Partition
from lkd.federated import Centralized, FedAvg, Federation, FedGKT, FedLin, FedMD, LocalTraining
from lkd.federated.client.single_samples import LoneSampleError, lone_clients, watching
from lkd.modules import Classifier

from .test_rounds import Samples, loader, trainer


class Sizes(Partition):
    """So many samples for each client."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __call__(self, columns, size, clients, rng):
        return np.split(np.arange(sum(self.sizes)), np.cumsum(self.sizes)[:-1])


class Net(LightningModule):
    """Any network over samples of `(3, side, side)`."""

    def __init__(self, *layers, side=None, freeze=False, crops=1):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.side, self.freeze, self.crops = nn.Sequential(*layers), side, freeze, crops
        self.head = nn.LazyLinear(2)
        self.head(self._features(torch.zeros(2, *(3, side, side) if side else (3,))))

    def _features(self, x):
        return self.net.eval()(x).flatten(1)

    def train(self, mode=True):
        super().train(mode)
        if self.freeze:
            for part in self.net:
                part.eval()
        return self

    def training_step(self, batch, batch_idx):
        x, y = batch
        x, y = torch.cat([x] * self.crops), torch.cat([y] * self.crops)
        return nn.functional.cross_entropy(self.head(self.net(x).flatten(1)), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data(*sizes, side=None, cohort=None, **kwargs):
    shape = (3, side, side) if side else (3,)
    rows = TensorDataset(torch.randn(sum(sizes), *shape), torch.arange(sum(sizes)) % 2)
    given = DataLoader(rows, batch_size=kwargs.pop("batch_size", 4), **kwargs)
    return FederatedDataModule(given, Sizes(*sizes), cohort=cohort)


def fit(module, given, rounds=3, algorithm=None, local=None):
    run = trainer(rounds)
    federation = Federation(module, algorithm or FedAvg(), local)
    try:
        run.fit(federation, datamodule=given)
    except LoneSampleError as error:
        assert run.global_step == 0 and "\n" not in str(error)
        return str(error)
    assert not [record.error for record in federation.records if record.error]
    return None


FIRST = FixedSampler([0])  # who has whole batches; client 1 ends in a batch of one


@pytest.mark.parametrize(
    ("layers", "side"),
    [
        ([nn.Linear(3, 4), nn.BatchNorm1d(4)], None),
        ([nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)], 1),
        ([nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4, track_running_stats=False)], 5),
        ([nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.GroupNorm(8, 8)], 5),
    ],
)
def test_it_is_found_in_the_first_round(layers, side):
    found = fit(Net(*layers, side=side), data(8, 4, 9, side=side, cohort=1))
    assert found.startswith("client 2 has a training batch of one sample, on which batch normalization")
    assert "drop_last" in found


@pytest.mark.parametrize(
    ("layers", "side", "kwargs"),
    [
        ([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)], 5, {}),  # many values a channel
        ([nn.Linear(3, 4), nn.BatchNorm1d(4)], None, {"freeze": True}),
        ([nn.Linear(3, 4), nn.BatchNorm1d(4)], None, {"crops": 2}),
        ([nn.Linear(3, 4), nn.LayerNorm(4)], None, {}),
        ([nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)], 5, {}),
        ([nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4)], 5, {}),
    ],
)
def test_what_is_defined_is_not_refused(layers, side, kwargs):
    assert fit(Net(*layers, side=side, **kwargs), data(8, 4, 9, 1, side=side)) is None


def norm():
    return Net(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_who_never_has_such_a_batch():
    assert fit(norm(), data(8, 9, drop_last=True)) is None
    assert fit(norm(), data(8, 9, cohort=FIRST)) is None  # client 1 never takes part
    assert (
        fit(norm(), data(8, 9), local=LocalTraining(steps=2)) is None
    )  # the end of the epoch is not reached
    assert "client 1" in fit(norm(), data(8, 9), local=LocalTraining(steps=3))
    assert "client 1" in fit(norm(), data(8, 9), local=LocalTraining(steps=2, accumulate_grad_batches=2))
    sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(range(17)), 4, drop_last=True)
    rows = TensorDataset(torch.randn(17, 3), torch.arange(17) % 2)
    batched = FederatedDataModule(DataLoader(rows, batch_sampler=sampler), Sizes(8, 9))
    assert fit(norm(), batched) is None


def test_the_pooled_client_has_batches_of_its_own():
    assert fit(norm(), data(8, 9, 9), algorithm=Centralized()) is None
    assert "pooled" in fit(norm(), data(8, 9, 4), algorithm=Centralized())


def test_pretraining_on_public_labels():
    public = TensorDataset(torch.randn(9, 3), torch.arange(9) % 2)
    given = FederatedDataModule(data(8, 8).data, Sizes(8, 8), public=public, batch_size=4)
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    found = fit(Classifier(body, 2), given, algorithm=FedMD(samples=8, batch_size=4, pretrain=1))
    assert found.startswith("batch_size=4 of 9 public samples leaves a batch of one")


def test_clients_with_one_sample_and_batches_of_one():
    assert "client 0 has" in fit(norm(), data(1, 8))
    assert "client 0 has" in fit(norm(), data(8, 8, batch_size=1))
    assert "client 1 has" in fit(norm(), data(8, 1, cohort=1))


def test_a_pass_in_order_has_the_rest_whatever_is_dropped():
    """FedLin asks for gradients of all data."""
    assert "client 1" in fit(norm(), data(8, 9, drop_last=True), algorithm=FedLin())


def test_each_architecture_by_itself():
    given = data(8, 9)
    federation = Federation(norm(), other_models=[Net(nn.Linear(3, 4))], client_models=[0, 1])
    trainer(1).fit(federation, datamodule=given)
    federation = Federation(Net(nn.Linear(3, 4)), other_models=[norm()], client_models=[0, 1])
    with pytest.raises(LoneSampleError, match="client 1"):
        trainer(1).fit(federation, datamodule=given)


def test_clients_of_somebodys_own_are_found_when_they_train():
    clients = [Samples(0, 8), Samples(1, 5)]
    with pytest.raises(LoneSampleError, match=r"client client1 has .* \(net\.1, a BatchNorm1d"):
        trainer(1).fit(Federation(norm()), loader(clients))
    assert lone_clients([0], lambda i: 0, clients, LocalTraining()) == {}


def test_a_function_in_place_of_a_layer_is_found_when_it_runs():
    class Functional(Net):
        def training_step(self, batch, batch_idx):
            x = nn.functional.batch_norm(self.net(batch[0]), None, None, training=True)
            return nn.functional.cross_entropy(self.head(x), batch[1])

    found = fit(Functional(nn.Linear(3, 4)), data(8, 9))
    assert found.startswith("client 1 has a training batch of one sample") and "drop_last" in found
    assert fit(Functional(nn.Linear(3, 4)), data(8, 10)) is None


def test_steps_on_public_and_on_told_features():
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    given = data(8, 8)
    public = TensorDataset(torch.randn(9, 3))
    federated = FederatedDataModule(given.data, Sizes(8, 8), public=public, batch_size=4)
    with pytest.raises(LoneSampleError, match=r"^batch_size=4 of 9 public samples leaves a batch of one"):
        run = trainer(3)
        run.fit(Federation(Classifier(body, 2), FedMD(batch_size=4, warmup=2)), datamodule=federated)
    assert run.global_step == 0
    run.fit(Federation(Classifier(body, 2), FedMD(batch_size=3, warmup=0)), datamodule=federated)
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    server = Classifier(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), 2)
    with pytest.raises(LoneSampleError, match="a step on public or generated samples has a batch of one"):
        trainer(1).fit(
            Federation(Classifier(plain, 2), FedGKT(server, "network.1", batch_size=5)), datamodule=data(8, 8)
        )


def test_no_hook_stays():
    module = norm()
    with pytest.raises(LoneSampleError), watching(module, "somebody has a batch of one sample"):
        module.train()
        module.net(torch.zeros(1, 3))
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_the_smallest_batch_of_a_client():
    given = data(8, 9, 3)
    given.setup("fit")
    assert [client.smallest_batch() for client in given.clients] == [4, 1, 3]
    dropped = data(8, 9, drop_last=True)
    dropped.setup("fit")
    assert [(c.smallest_batch(), c.smallest_batch(ordered=True)) for c in dropped.clients] == [(4, 4), (4, 1)]
