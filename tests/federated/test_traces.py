"""What a client does to its module is its own: the others' work does not depend on it, not even when it fails."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.federated.client.traces import switches

from .quadratic import loader, trainer
from .test_foreign_clients import Foreign
from .test_rounds import Samples, samples


def freeze(module):
    module.net[0].requires_grad_(False)


def half(module):
    module.half()


def swap(module):
    module.net[2] = nn.Linear(4, 2)


def grow(module):
    module.net.append(nn.Linear(2, 2))
    module.register_parameter("more", nn.Parameter(torch.ones(1)))


def hook(module):
    module.net[0].register_forward_hook(lambda layer, given, output: output * 0)


def hook_of_a_weight(module):
    module.net[0].weight.register_hook(lambda gradient: gradient * 0)


def forward(module):
    module.forward = lambda x: module.net(x) * 0


def no_gradients(module):
    torch.set_grad_enabled(False)


def other_type(module):
    torch.set_default_dtype(torch.float64)


def autocast(module):
    torch.autocast("cpu", torch.bfloat16).__enter__()


def add_group(module):
    module.optimizers().add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})


SPOILS = [
    freeze,
    half,
    swap,
    grow,
    hook,
    hook_of_a_weight,
    forward,
    no_gradients,
    other_type,
    autocast,
    add_group,
]


class Spoiled(Foreign):
    """Does something to itself where the first client begins, and fails there or not."""

    def __init__(self, spoil, fails):
        torch.manual_seed(4)
        super().__init__()
        self.spoil, self.fails = spoil, fails

    def on_train_start(self):
        self.first = True

    def training_step(self, batch, batch_idx):
        if batch[0].mean() < -50:
            self.spoil(self)
            if self.fails:
                raise OSError("broken")
        return super().training_step(batch, batch_idx)


def clients(first):
    """The first is told by its values."""
    people = samples()
    people[0].x = people[0].x - 100
    return people if first else people[1:]


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_client_that_fails_spoils_nobody(spoil):
    def run(first):
        federation = Federation(Spoiled(spoil, True), FedAvg(), LocalTraining(epochs=1), seed=1)
        trainer(2).fit(federation, loader(clients(first)))
        assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
        assert [r.error for r in federation.records if r.client] == ["", ""]
        return federation.model.state_dict()

    with pytest.warns(UserWarning, match="client0 failed.*broken"):
        found = run(True)
    expected = run(False)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("spoil", [freeze, swap, hook, hook_of_a_weight, forward, no_gradients, other_type])
def test_nor_does_one_that_succeeds(spoil):
    """Its own training apart: of no weight, so that the others' alone count."""

    def run(first):
        federation = Federation(Spoiled(spoil, False), FedAvg(), LocalTraining(epochs=1), seed=1)
        people = clients(first)
        trainer(1).fit(federation, loader(people))
        return [model.state_dict()["net.0.weight"].clone() for _, model in federation.models(people[-1:])], {
            name: p.requires_grad for name, p in federation.students[0].named_parameters()
        }

    _, flags = run(True)
    assert flags == run(False)[1] and all(flags.values()) and len(flags) == 4


class Counting(Foreign):
    """Learns faster with every step that it has made; a counter as people write them."""

    def __init__(self):
        torch.manual_seed(4)
        super().__init__()
        self.steps, self.warm = 0, False

    def training_step(self, batch, batch_idx):
        self.steps += 1
        self.warm = self.steps > 2
        return super().training_step(batch, batch_idx) * self.steps


def counted(rounds, people, tmp_path, resume=None):
    federation = Federation(Counting(), FedAvg(), LocalTraining(epochs=1), seed=1)
    save = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    run = trainer(rounds, enable_checkpointing=True, callbacks=[save])
    run.fit(federation, loader(people), ckpt_path=resume)
    return federation


def test_every_client_counts_for_itself(tmp_path):
    whole = counted(3, samples(), tmp_path)
    kept = {c: s["attributes"] for c, s in whole.engine.host.store.state_dict().items()}
    assert {c: (s[".steps"].item(), s[".warm"].item()) for c, s in kept.items()} == {
        0: (6, True),
        1: (9, True),
        2: (15, True),
    }
    assert whole.students[0].steps == 0
    assert [model.steps for _, model in whole.models(samples())] == [6, 9, 15]
    resumed = counted(3, samples(), tmp_path / "rest", tmp_path / "epoch=0.ckpt")
    assert torch.equal(whole.model.net[0].weight, resumed.model.net[0].weight)
    mirrored = counted(3, samples()[::-1], tmp_path / "mirrored")
    assert torch.equal(whole.model.net[0].weight, mirrored.model.net[0].weight)


def test_other_attributes_are_warned_of_once():
    class Remembers(Foreign):
        def __init__(self):
            super().__init__()
            self.seen, self.mean, self._private = [], None, None

        def training_step(self, batch, batch_idx):
            self.seen.append(1)
            self.mean, self._private, self.output = batch[0].mean(), batch[0].mean(), batch[0]
            return super().training_step(batch, batch_idx)

    federation = Federation(Remembers())
    with pytest.warns(UserWarning) as told:
        trainer(2).fit(federation, loader(samples()))
    (said,) = [str(w.message) for w in told if "changes" in str(w.message)]
    assert said.startswith("Remembers changes seen, mean in training.")
    assert federation.students[0].mean is None and not hasattr(federation.students[0], "output")


def test_no_word_on_modules_that_change_nothing(recwarn):
    trainer(1).fit(Federation(Foreign()), loader([Samples(0, 8, 1)]))
    assert not [w for w in recwarn if "changes" in str(w.message)]


def test_switches_are_put_back():
    with switches():
        torch.set_grad_enabled(False)
    assert torch.is_grad_enabled()
