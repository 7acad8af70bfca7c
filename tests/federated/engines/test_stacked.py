"""Clients that train as one tensor program end where the loop brings them, and say so where they cannot."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from lkd.callbacks import FeatureDistillation, LogitDistillation
from lkd.datamodules import IID, Digits, Dirichlet, FederatedDataModule
from lkd.federated import (
    FD,
    MOON,
    SCAFFOLD,
    FedAvg,
    Federation,
    FedLin,
    FedNova,
    FedNTD,
    FedProto,
    FedProx,
    FedShuffle,
    FedShuffleMVR,
    Local,
    LocalTraining,
    Mime,
    MimeLite,
)
from lkd.federated.client.host import Host
from lkd.federated.client.stacked.batches import stacks
from lkd.federated.engines import Loop, Stacked
from lkd.metrics.flops import FlopCount
from lkd.models import MLP
from lkd.modules import Classifier
from lkd.teachers import Teacher

from ..quadratic import Quadratic, loader, trainer
from .clients import clients

CALLS = []
"""Of the step of all copies of a module."""


class Counted(Classifier):
    """Counts the calls of its step."""

    def training_step(self, batch, batch_idx=0):
        CALLS.append(batch[0].shape)
        return super().training_step(batch, batch_idx)


class Stepwise(Counted):
    """Its rate follows a client's steps."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.8)
        return [optimizer], [{"scheduler": StepLR(optimizer, 2, 0.5), "interval": "step"}]


class Cycle(Counted):
    """Its rate and momentum follow the steps of all of a client's rounds."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.8)
        steps = int(self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": OneCycleLR(optimizer, 0.2, steps), "interval": "step"}]


class Logs(Counted):
    """Logs what is averaged, added up, and a smallest value."""

    def training_step(self, batch, batch_idx=0):
        self.log("sum", batch[0].mean(), reduce_fx="sum")
        self.log("least", batch[0].mean(), reduce_fx="min")
        return super().training_step(batch, batch_idx)


def mlp():
    return MLP(64, 10, hidden=[12])


def normalized():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))


def sgd(**options):
    return lambda params: torch.optim.SGD(params, lr=0.1, **options)


def fit(engine, algorithm=None, net=mlp, kind=Counted, part=None, rounds=3, batch=16, cohort=None, callbacks=(),
        optimizer=None, scheduler=None, local=None, double=True, **options):  # fmt: skip
    torch.manual_seed(0)
    CALLS.clear()
    given = {"scheduler": scheduler} if scheduler is not None else {}
    module = kind(net(), num_classes=10, optimizer=optimizer or sgd(), **given)
    module = module.double() if double else module
    local = local or LocalTraining(epochs=1)
    federation = Federation(module, algorithm or FedAvg(), local, engine=engine, **options)
    data = FederatedDataModule(Digits(batch_size=batch), part or IID(), clients=7, cohort=cohort, seed=2)
    made = Trainer(max_epochs=rounds, precision="64-true" if double else 32, limit_val_batches=0, callbacks=list(callbacks), accelerator="cpu",
                   logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    made.fit(federation, data)
    logs = [{r.client: r.metrics for r in federation.records}, dict(made.callback_metrics)]
    return federation, len(CALLS), logs


def close(found, expected, atol=1e-10):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            close(found[name], value, atol)
    elif isinstance(expected, list | tuple):
        for one, other in zip(found, expected, strict=True):
            close(one, other, atol)
    else:
        torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=atol)


def agree(stacks=True, atol=1e-10, **options):
    """Fits with both engines; with `stacks` the step was called less often than the loop calls it."""
    make = options.pop("make", FedAvg)
    one, calls, logs = fit(Loop(), make(), **options)
    two, fewer, stacked = fit(Stacked(), make(), **options)
    assert fewer < calls if stacks else fewer == calls
    close(two.state_dict(), one.state_dict(), atol)
    close(two.algorithm.state, one.algorithm.state, atol)
    close(two.engine.state_dict()["clients"], one.engine.state_dict()["clients"], atol)
    close(stacked, logs, atol)
    return two


ALGORITHMS = {
    "fedavg": FedAvg,
    "fedprox": lambda: FedProx(mu=0.1),
    "scaffold": SCAFFOLD,
    "scaffold_1": lambda: SCAFFOLD(option=1),
    "mime": Mime,
    "mimelite": MimeLite,
    "fednova": FedNova,
    "fedlin": FedLin,
    "fedshuffle": FedShuffle,
    "mvr": FedShuffleMVR,
    "local": Local,
    "fedntd": FedNTD,
    "moon": lambda: MOON("network.layers.1"),
    "moon_output": lambda: MOON(""),
    "fedproto": lambda: FedProto("network.layers.1", 10),
    "fd": FD,
}


@pytest.mark.parametrize("part", [IID(), Dirichlet(0.5)], ids=["iid", "dirichlet"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_ends_where_the_loop_does(name, part):
    """Under Dirichlet clients have other numbers of steps, and last batches of other sizes."""
    atol = 1e-5 if name in ("fd", "fedproto") else 1e-10  # these compare in float32
    agree(make=ALGORITHMS[name], part=part, cohort=None if name == "fedlin" else 5, atol=atol)


def test_models_that_clients_carry_and_batches_of_other_sizes():
    """With layers of their own, buffers, and last batches that are smaller."""
    for make in (FedNTD, ALGORITHMS["moon_output"]):
        agree(make=make, net=normalized, personal_layers=["network.1"])


@pytest.mark.parametrize("name", ["mime", "fedlin", "mvr"])
def test_gradients_of_whole_data_are_those_of_a_stack(name, monkeypatch):
    """The first client alone gives one by itself, to show what it does."""
    alone, answer = [], Host.answer
    monkeypatch.setattr(Host, "answer", lambda self, verb, *args: alone.append(verb) or answer(self, verb, *args))  # fmt: skip
    stacked = fit(Stacked(), ALGORITHMS[name](), net=normalized, personal_layers=["network.1"])[0]
    assert alone.count("gradient") == 1
    one = fit(Loop(), ALGORITHMS[name](), net=normalized, personal_layers=["network.1"])[0]
    close(stacked.state_dict(), one.state_dict())
    close(stacked.engine.state_dict()["clients"], one.engine.state_dict()["clients"])


OPTIMIZERS = {
    "nesterov": sgd(momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, momentum=0.5, centered=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_elementwise_optimizer(name):
    agree(optimizer=OPTIMIZERS[name], part=Dirichlet(1.0))


def test_clipping_is_by_each_clients_norm():
    federation = agree(local=LocalTraining(epochs=1, gradient_clip_val=0.5))
    other, _, _ = fit(Stacked())
    assert not torch.equal(federation.model.network.layers[-1].weight, other.model.network.layers[-1].weight)


@pytest.mark.parametrize(
    "options",
    [{"scheduler": lambda o: StepLR(o, 1, 0.5)}, {"kind": Stepwise}, {"kind": Cycle}],
    ids=["rounds", "steps", "cycle"],
)
def test_schedules(options):
    agree(part=Dirichlet(1.0), **options)


def test_layers_of_ones_own_and_batch_statistics():
    agree(net=normalized)
    agree(net=normalized, personal_layers="batchnorm")
    agree(personal_layers=["network.layers.3"], make=SCAFFOLD)


class Half(Counted):
    """A layer of it takes no part in the loss, and decays nevertheless where it has a gradient of 0."""

    def __init__(self, network, **kwargs):
        super().__init__(network, **kwargs)
        self.idle = nn.Linear(3, 3)


@pytest.mark.parametrize("make", [FedAvg, lambda: FedProx(0.1)], ids=["fedavg", "fedprox"])
def test_a_layer_that_the_loss_does_not_reach(make):
    """FedProx gives it gradients, FedAvg none."""
    agree(kind=Half, make=make, optimizer=sgd(weight_decay=0.5, momentum=0.5))


def test_a_layer_of_two_names_and_one_that_is_frozen():
    def net():
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10))
        made[4].weight = made[2].weight
        made[1].weight.requires_grad_(False)
        return made

    agree(net=net)


def test_a_log_is_averaged_for_each_client():
    agree(kind=Logs, part=Dirichlet(0.5), local=LocalTraining(epochs=2))


def test_a_teacher_in_common_and_adapters_of_each_client():
    def callbacks():
        torch.manual_seed(5)
        teacher = Classifier(MLP(64, 10, hidden=[20]), num_classes=10)
        layers = {"network.layers.1": "network.layers.1"}
        return [LogitDistillation(Teacher(teacher), alpha=0.5), FeatureDistillation(Teacher(teacher), layers, weight=0.1)]  # fmt: skip

    one, calls, _ = fit(Loop(), callbacks=callbacks(), double=False)
    two, fewer, _ = fit(Stacked(), callbacks=callbacks(), double=False)
    assert fewer < calls
    close(two.state_dict(), one.state_dict(), 1e-5)
    kept = two.engine.state_dict()["clients"]
    close(kept, one.engine.state_dict()["clients"], 1e-5)
    assert any("distillation_adapters" in name for name in kept[0]["personal"])


def test_dropout_draws_for_every_client_and_the_same_again():
    def net():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Dropout(0.5), nn.Linear(12, 10))

    (one, calls, _), (two, _, _) = fit(Stacked(), net=net), fit(Stacked(), net=net)
    assert calls < fit(Loop(), net=net)[1]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_operations_are_counted_for_all_clients_of_a_stack():
    counts = []
    for engine in (Loop(), Stacked()):
        with FlopCount() as count:
            fit(engine, part=Dirichlet(0.5), rounds=2)
        counts.append(count.total)
    assert counts[0] == counts[1] > 0


def test_stacks_of_any_size_end_at_the_same():
    one, two = fit(Stacked(clients=2), SCAFFOLD())[0], fit(Stacked(clients=100), SCAFFOLD())[0]
    close(one.state_dict(), two.state_dict())


def test_who_is_not_finite_is_left_out_alone():
    """Client 2 has a point at infinity."""
    everyone = clients(4)
    everyone[2].e[:] = torch.inf
    federation = Federation(Quadratic(), FedAvg(), LocalTraining(epochs=1), engine=Stacked())
    trainer(1).fit(federation, loader(everyone))
    assert {r.client for r in federation.records if r.error} == {2}
    assert "not finite" in next(r.error for r in federation.records if r.error)
    assert federation.model.x.item() == pytest.approx(sum(e - e * 0.95**2 for e in (0, 1, 3)) / 3)


def test_who_has_broken_data_is_left_out_and_the_others_go_on_stacked(monkeypatch, recwarn):
    everyone, whole = clients(4), type(clients(1)[0]).train_batches

    def broken(self, seed):
        if self.id == 2:
            raise OSError("a file is gone")
        return whole(self, seed)

    monkeypatch.setattr(type(everyone[0]), "train_batches", broken)
    federation = Federation(Quadratic(), FedAvg(), LocalTraining(epochs=1), engine=Stacked())
    trainer(2).fit(federation, loader(everyone))
    assert {r.client: r.error for r in federation.records if r.error} == {2: "OSError: a file is gone"}
    assert not [w for w in recwarn if "one after the other" in str(w.message)]


class ByIndex(Counted):
    def training_step(self, batch, batch_idx=0):
        return super().training_step(batch, batch_idx) * (batch_idx % 2)


class AsksForItsRate(Stepwise):
    def training_step(self, batch, batch_idx=0):
        rate = self.optimizers().param_groups[0]["lr"]
        self.log("rate", rate)
        return super().training_step(batch, batch_idx) * rate


class Warms(Counted):
    """A scheduler of two others."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.8)
        inner = [StepLR(optimizer, 1, 2.0), StepLR(optimizer, 2, 0.5)]
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, inner, [2])
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Sums(Counted):
    """Two weights that are added have one gradient, in one memory."""

    def __init__(self, network, **kwargs):
        super().__init__(network, **kwargs)
        self.one, self.two = nn.Parameter(torch.zeros(10)), nn.Parameter(torch.ones(10))

    def forward(self, x):
        return super().forward(x) + (self.one + self.two)


class Clamps(Counted):
    """Clamps a weight in the step, as CLIP does its temperature."""

    def training_step(self, batch, batch_idx=0):
        with torch.no_grad():
            self.network.layers[3].bias.clamp_(max=0.05)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("kind", [ByIndex, AsksForItsRate, Warms, Clamps])
def test_a_step_has_its_number_and_the_module_its_rates_and_weights(kind):
    agree(kind=kind, part=Dirichlet(0.5), local=LocalTraining(epochs=2))


@pytest.mark.parametrize(
    "options", [{"make": SCAFFOLD}, {"local": LocalTraining(epochs=1, gradient_clip_val=0.1)}]
)
def test_weights_that_are_added_have_gradients_of_their_own(options):
    agree(kind=Sums, **options)


def test_what_an_optimizer_starts_from_is_that_of_its_group():
    agree(optimizer=lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=1.0))


class ByShape(Counted):
    """A head that whole batches alone reach, and that keeps moving by its momentum where it is reached."""

    def __init__(self, network, **kwargs):
        super().__init__(network, **kwargs)
        self.head = nn.Linear(10, 10)

    def forward(self, x):
        logits = super().forward(x)
        return self.head(logits) if len(x) == 16 else logits


def test_a_layer_that_some_batches_reach():
    options = {"kind": ByShape, "optimizer": sgd(momentum=0.9), "local": LocalTraining(steps=20)}
    agree(**options)
    options["part"] = Dirichlet(0.5)  # last batches of other sizes, at other steps
    with pytest.warns(UserWarning, match="batches of other shapes reach other weights"):
        found = fit(Stacked(), **options)[0]
    close(found.state_dict(), fit(Loop(), **options)[0].state_dict())


class CountsLater(Counted):
    """Counts from the second round on, when nobody looks at a first client any more."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = 0

    def training_step(self, batch, batch_idx=0):
        if self.current_epoch > 0:
            self.steps += 1
        return super().training_step(batch, batch_idx) / (1 + self.steps)


class Hides(Counted):
    """Keeps the loss before under a private name."""

    def training_step(self, batch, batch_idx=0):
        loss = super().training_step(batch, batch_idx)
        loss, self._before = loss + getattr(self, "_before", 0.0), loss.detach()
        return loss


class Remembers(Counted):
    """Puts what it has seen into a list."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def training_step(self, batch, batch_idx=0):
        self.seen.append(batch[0].mean())
        return super().training_step(batch, batch_idx)


class Branches(Counted):
    """Looks at a value in its step, which has no answer for many clients at once."""

    def training_step(self, batch, batch_idx=0):
        if batch[0].sum() > 0:
            return super().training_step(batch, batch_idx)
        return None


class Counts(Counted):
    """Counts its steps on itself."""

    steps = 0

    def training_step(self, batch, batch_idx=0):
        self.steps += 1
        return super().training_step(batch, batch_idx) / self.steps


@pytest.mark.parametrize(("kind", "told"), [(Branches, "a stack of them fails"), (Counts, "a client keeps .steps"), (Remembers, "training changes seen"), (CountsLater, "training changes steps"), (Hides, "training changes _before")])  # fmt: skip
def test_what_does_not_stack_is_trained_by_the_loop_with_a_word(kind, told):
    with pytest.warns(UserWarning, match=rf"engine=Stacked: clients of {kind.__name__} are trained one after the other, since {told}"):  # fmt: skip
        found = fit(Stacked(), kind=kind)[0]
    close(found.state_dict(), fit(Loop(), kind=kind)[0].state_dict())


class Hooked(Counted):
    def on_train_start(self):
        pass


class Draws(Counted):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.generator = torch.Generator()


class HooksParameters(Counted):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.network.layers[1].weight.register_hook(lambda gradient: gradient * 0)


class HooksOptimizer(Counted):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer


class Another(FedAvg):
    """A user's own, which does not say that it stacks."""

    def correct(self, context):
        pass


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kind": Hooked}, r"Hooked has hooks that are called for each client \(on_train_start\)"),
        (
            {"algorithm": Another()},
            "Another does not say that its client half works on stacked tensors",
        ),
        ({"optimizer": lambda p: torch.optim.Adafactor(p)}, "Adafactor of Counted is not known to treat"),
        ({"local": LocalTraining(epochs=1, accumulate_grad_batches=2)}, "accumulate_grad_batches=2 adds up"),
    ],
)
def test_what_cannot_be_stacked_is_refused_before_the_first_round(options, told):
    with pytest.raises(ValueError, match=rf"engine=Stacked: {told}.*take engine=Loop\(\)"):
        fit(Stacked(), **options)


def test_a_stack_has_two_clients_or_more():
    with pytest.raises(ValueError, match="clients=1 must be 2 or more"):
        Stacked(clients=1)


def test_batches_with_other_names_of_the_same_shapes_are_stacks_apart():
    x, y = torch.zeros(2, 3), torch.ones(2, 3)
    found = list(stacks([{"rgb": x}, {"depth": x}, {"rgb": y}, (x, y), [x, y]]))
    assert [rows for rows, _ in found] == [[0, 2], [1], [3], [4]]
    assert found[0][1].keys() == {"rgb"} and torch.equal(found[0][1]["rgb"], torch.stack([x, y]))
    assert [type(batch) for _, batch in found] == [dict, dict, tuple, list]
    with pytest.raises(TypeError, match="a batch holds a str"):
        next(stacks([("C1", x)]))


class Tells(FedAvg):
    """Says that it stacks, and replies what cannot be dealt out."""

    stacks = True

    def finish(self, context):
        context.reply_tensors["mean"] = context.params[0].mean()
        return {}


class Looks(FedAvg):
    stacks = True

    def begin(self, context):
        context.scratch["samples"] = context.client.num_samples


@pytest.mark.parametrize(("algorithm", "told"), [(Tells(), "'mean' has no leading dimension of 6 clients"), (Looks(), "context.client.num_samples: a stack has no single client")])  # fmt: skip
def test_an_algorithm_that_does_not_stack_though_it_says_so(algorithm, told):
    with pytest.warns(UserWarning, match=told):
        fit(Stacked(), algorithm)
