"""Clients of a stack that exchange knowledge of public data end where the loop brings them."""

from collections import Counter

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lkd.datamodules import IID, Digits, Dirichlet, FederatedDataModule
from lkd.federated import DSFL, SCARLET, Cronus, FedDF, Federation, FedMD, KTpFL, LocalTraining, ServerTeacher
from lkd.federated.client.host import Host
from lkd.federated.engines import Auto, Loop, Stacked
from lkd.models import MLP
from lkd.modules import Classifier
from lkd.teachers import Teacher

from .test_stacked import close

FORWARDS = []
"""Of all copies of a network."""


class Net(nn.Module):
    """Counts the calls of its forward."""

    def __init__(self, normalized=False, frozen=False):
        super().__init__()
        between = nn.BatchNorm1d(12) if normalized else nn.Identity()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), between, nn.ReLU(), nn.Linear(12, 10))
        self.layers[1].weight.requires_grad_(not frozen)

    def forward(self, x):
        FORWARDS.append(len(x))
        return self.layers(x)


def fit(engine, algorithm, net=Net, part=None, rounds=3, cohort=None, momentum=0.9, local=None, dtype=torch.float64, clients=7, path=None, **options):  # fmt: skip
    torch.manual_seed(0)
    FORWARDS.clear()
    double = dtype == torch.float64
    module = Classifier(net(), num_classes=10, optimizer=lambda p: torch.optim.SGD(p, 0.1, momentum=momentum)).to(dtype)  # fmt: skip
    local = local or LocalTraining(epochs=1)
    federation = Federation(module, algorithm, local, engine=engine, **options)
    data = FederatedDataModule(Digits(batch_size=16), part or IID(), clients=clients, cohort=cohort, seed=2, public=0.1)  # fmt: skip
    made = Trainer(max_epochs=rounds, precision="64-true" if double else 32, limit_val_batches=0, accelerator="cpu",
                   logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    made.fit(federation, data, ckpt_path=path, weights_only=False)
    return federation, len(FORWARDS), made


def same(one, two):
    close(two.state_dict(), one.state_dict())
    close(two.algorithm.state, one.algorithm.state)
    close(two.engine.state_dict()["clients"], one.engine.state_dict()["clients"])
    logs = [{r.client: (r.metrics, r.bytes_up, r.bytes_down) for r in f.records} for f in (one, two)]
    close(*logs)


def teacher():
    torch.manual_seed(5)
    return Teacher(Classifier(MLP(64, 10, hidden=[20]), num_classes=10).double())


ALGORITHMS = {
    "fedmd": lambda: FedMD(batch_size=50, epochs=2),
    "fedmd_probabilities": lambda: FedMD(of="probabilities", temperature=2.0, samples=40, batch_size=16),
    "fedmd_pretrained": lambda: FedMD(pretrain=1, warmup=0),
    "dsfl": lambda: DSFL(samples=70, epochs=2, batch_size=32),
    "scarlet": lambda: SCARLET(samples=90, duration=1, epochs=2, batch_size=32),
    "ktpfl": lambda: KTpFL(batch_size=64),
    "cronus": lambda: Cronus(batch_size=64),
    "feddf": lambda: FedDF(steps=5),
    "teacher": lambda: ServerTeacher(teacher()),
}


def agree(make, **options):
    """Fits with both engines; returns how often `Stacked` let a single client work, by verb."""
    one, calls, _ = fit(Loop(), make(), **options)
    asked = Counter()
    with pytest.MonkeyPatch.context() as patch:
        answer = Host.answer
        patch.setattr(Host, "answer", lambda self, verb, *args: asked.update([verb]) or answer(self, verb, *args))  # fmt: skip
        two, fewer, _ = fit(Stacked(), make(), **options)
    assert fewer < calls
    same(one, two)
    return asked


@pytest.mark.parametrize("part", [IID(), Dirichlet(0.5)], ids=["iid", "dirichlet"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_exchange_ends_where_the_loop_does(name, part, recwarn):
    alone = agree(ALGORITHMS[name], part=part, cohort=5)
    assert not [str(w.message) for w in recwarn if "one after the other" in str(w.message)]
    assert alone["predict"] <= 1 and alone["digest"] <= 1  # the first client, to show what it does


NETS = {
    "statistics": lambda: Net(normalized=True),
    "frozen": lambda: Net(frozen=True),
}


@pytest.mark.parametrize("name", NETS)
def test_buffers_and_frozen_layers_of_clients_that_share_no_weights(name):
    for make in (ALGORITHMS["fedmd"], ALGORITHMS["scarlet"]):
        assert agree(make, net=NETS[name])["train"] == 1


def test_a_stack_of_each_architecture_and_clipping():
    other = Classifier(MLP(64, 10, hidden=[5]), num_classes=10, optimizer=lambda p: torch.optim.SGD(p, 0.1))
    local = LocalTraining(epochs=1, gradient_clip_val=0.5)
    alone = agree(ALGORITHMS["dsfl"], local=local, other_models=[other.double()])
    assert alone["predict"] == alone["digest"] == 2


@pytest.mark.parametrize("name", ["fedmd", "scarlet"])
def test_a_run_that_was_interrupted_goes_on_with_the_same_bits(name, tmp_path):
    whole, _, _ = fit(Stacked(), ALGORITHMS[name](), rounds=4)
    _, _, part = fit(Stacked(), ALGORITHMS[name](), rounds=2)
    part.save_checkpoint(tmp_path / "part.ckpt")
    resumed, _, _ = fit(Stacked(), ALGORITHMS[name](), rounds=4, path=tmp_path / "part.ckpt")
    close(resumed.state_dict(), whole.state_dict(), 0)
    close(resumed.engine.state_dict()["clients"], whole.engine.state_dict()["clients"], 0)


class Alternates(FedMD):
    """Asks clients in another order each, and says that it stacks."""

    stacks = True

    def asked(self, client):
        return np.roll(super().asked(client), client.client.id)


def test_clients_that_are_asked_different_things_go_one_after_the_other():
    with pytest.warns(UserWarning, match="Alternates.asked gives clients other samples"):
        found, _, _ = fit(Stacked(), Alternates(batch_size=50, samples=50))
    same(fit(Loop(), Alternates(batch_size=50, samples=50))[0], found)


def test_auto_stacks_predictions_too_once_training_has_shown_that_it_pays(tmp_path):
    options = {"clients": 12, "dtype": torch.float64}
    one, calls, _ = fit(Loop(), ALGORITHMS["fedmd"](), **options)
    two, fewer, _ = fit(Auto(), ALGORITHMS["fedmd"](), **options)
    assert fewer < calls / 2
    same(one, two)
    _, _, part = fit(Auto(), ALGORITHMS["fedmd"](), rounds=2, **options)
    part.save_checkpoint(tmp_path / "part.ckpt")
    resumed, _, _ = fit(Auto(), ALGORITHMS["fedmd"](), path=tmp_path / "part.ckpt", **options)
    close(resumed.engine.state_dict()["clients"], two.engine.state_dict()["clients"], 0)
    few, as_many, _ = fit(Auto(), ALGORITHMS["fedmd"](), clients=7)
    assert as_many == fit(Loop(), ALGORITHMS["fedmd"](), clients=7)[1]
    close(few.state_dict(), fit(Loop(), ALGORITHMS["fedmd"](), clients=7)[0].state_dict(), 0)
