"""Two of ten clients tell the opposite of what they think, ten times as loud: real digits, two architectures."""

import pytest
import torch

from lkd.datamodules import Digits, Dirichlet, FederatedDataModule
from lkd.federated import Attack, Federation, FedMD, GeometricMedian, LocalTraining, TrimmedMean
from lkd.models import MLP
from lkd.modules import Classifier

from ..quadratic import trainer

LIARS, ROUNDS = [0, 1], 14


def classifier(width):
    torch.manual_seed(width)
    network = MLP(64, 10, [width])
    return Classifier(network, 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.3, weight_decay=0.0))


def accuracy(of, rule=None, lies=True):
    """Mean accuracy of the eight honest clients on all ten digits."""
    algorithm = FedMD(of=of, rule=rule, epochs=4, batch_size=64, warmup=4)
    attack = Attack(LIARS, "sign_flip", scale=10.0) if lies else None
    federation = Federation(
        classifier(32), algorithm, LocalTraining(epochs=5), other_models=[classifier(64)], attack=attack
    )
    data = FederatedDataModule(
        Digits(batch_size=16), Dirichlet(1.0), clients=10, public=0.5, cohorts_per_epoch=ROUNDS
    )
    trainer(1, limit_val_batches=0).fit(federation, datamodule=data)
    data.setup("test")
    x, y = (torch.cat(parts) for parts in zip(*data.test_dataloader(), strict=True))
    honest = [client for client in data.clients[list(range(10))] if client.id not in LIARS]
    with torch.no_grad():
        hits = [(module(x).argmax(1) == y).float().mean() for _, module in federation.models(honest)]
    return float(torch.stack(hits).mean())


@pytest.fixture(scope="module")
def honest():
    return accuracy("probabilities", lies=False)


def test_the_mean_of_raw_logits_collapses():
    assert accuracy("logits") < accuracy("logits", lies=False) - 0.2


@pytest.mark.parametrize("rule", [GeometricMedian(), TrimmedMean(0.2)], ids=lambda rule: type(rule).__name__)
def test_robust_rules_over_probabilities_hold(rule, honest):
    assert accuracy("probabilities", rule) > honest - 0.02
