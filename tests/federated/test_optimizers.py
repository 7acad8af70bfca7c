"""Optimizers of people's own begin anew at every client, and those that climb are refused where steps have to go down."""

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from lkd.federated import (
    MOON,
    SCAFFOLD,
    FedAvg,
    Federation,
    FedLin,
    FedMD,
    FedNova,
    FedNTD,
    FedProto,
    FedProx,
    FedShuffle,
    FedShuffleMVR,
    LocalTraining,
    Mime,
    MimeLite,
)
from lkd.federated.engines import Loop, Stacked
from lkd.modules import Classifier

from .knowledge.public import federate
from .knowledge.two_models import net
from .quadratic import Point, Quadratic, loader, trainer

ROWS = [[(1.0, [2.0]), (2.0, [0.0])], [(3.0, [-1.0]), (1.0, [4.0])]]
RATE = 0.125


class Attributes(torch.optim.Optimizer):
    """Keeps its momentum and its count beside its `state`."""

    def __init__(self, params):
        super().__init__(params, {"lr": RATE})
        self.buf, self.t = {}, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.t += 1
        for group in self.param_groups:
            for p in group["params"]:
                self.buf[p] = 0.9 * self.buf.get(p, 0.0) + p.grad
                p.sub_(group["lr"] / self.t * self.buf[p])


class Wraps(torch.optim.Optimizer):
    """Steps by another optimizer, whose state is its own."""

    def __init__(self, params):
        super().__init__(params, {"lr": RATE})
        self.inner = torch.optim.Adam(self.param_groups[0]["params"], lr=RATE)

    def step(self, closure=None):
        self.inner.param_groups[0]["lr"] = self.param_groups[0]["lr"]
        self.inner.step()


class Derived(torch.optim.SGD):
    """PyTorch's, and a count."""

    def __init__(self, params):
        super().__init__(params, lr=RATE, momentum=0.5)
        self.t = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.t += 1
        for p in self.param_groups[0]["params"]:
            p.grad /= self.t
        super().step()


def lookahead(params):
    made = create_optimizer_v2(list(params), opt="lookahead_adam", lr=RATE)
    made.lookahead_k = 2
    for group in made.param_groups:
        group["lookahead_k"] = 2
    return made


OWN = [Attributes, Wraps, Derived, lookahead]


class Scheduled(Quadratic):
    """With a scheduler, and notes of the rates that it had."""

    def __init__(self, schedule=None, **kwargs):
        super().__init__(**kwargs)
        self.schedule, self.rates = schedule, {}

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return optimizer if self.schedule is None else self.schedule(optimizer)

    def training_step(self, batch, batch_idx):
        self.rates[len(self.rates)] = self.optimizers().param_groups[0]["lr"]
        return super().training_step(batch, batch_idx)


def fit(make, clients, rounds, start=0.0, schedule=None, steps=4):
    module = Scheduled(schedule, optimizer=make, start=start)
    federation = Federation(module, FedAvg(), LocalTraining(steps=steps), seed=1)
    points = [Point(k, ROWS[k], 2, share=0.5) for k in clients]
    trainer(rounds).fit(federation, loader(points))
    assert not [record.error for record in federation.records if record.error]
    return federation


@pytest.mark.parametrize("make", OWN)
def test_a_client_and_a_round_leave_nothing_to_the_next(make):
    """Two rounds of two clients are what four clients that know nothing of each other make of them."""
    x = 0.0
    for _ in range(2):
        x = sum(fit(make, [k], 1, start=x).model.x.item() for k in range(2)) / 2
    assert fit(make, [0, 1], 2).model.x.item() == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("make", OWN)
@pytest.mark.parametrize(
    "schedule", [lambda o: StepLR(o, 1, 0.5), lambda o: LambdaLR(o, lambda round: 0.5**round)]
)
def test_a_schedule_that_counts_rounds_goes_on(make, schedule):
    def both(optimizer):
        return [optimizer], [schedule(optimizer)]

    student = fit(make, [0, 1], 3, schedule=both, steps=2).students[0]
    assert list(student.rates.values()) == [RATE] * 4 + [RATE / 2] * 4 + [RATE / 4] * 4


@pytest.mark.parametrize("make", OWN)
def test_a_plateau_goes_on(make):
    def waits(optimizer):
        plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1e9, threshold_mode="abs")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}}

    student = fit(make, [0, 1], 3, schedule=waits, steps=2).students[0]
    assert (
        list(student.rates.values()) == [RATE] * 8 + [RATE / 2] * 4
    )  # the first loss is the best, the second is not better


def climbs(params):
    return torch.optim.SGD(params, lr=RATE, maximize=True)


class Negative(Quadratic):
    """Its loss has the other sign, for an optimizer that climbs."""

    def __init__(self):
        super().__init__(optimizer=climbs)

    def training_step(self, batch, batch_idx):
        return -super().training_step(batch, batch_idx)


def both_points():
    return loader([Point(k, ROWS[k], 2, share=0.5) for k in range(2)])


@pytest.mark.parametrize(
    "algorithm",
    [lambda: FedProx(mu=0.1), SCAFFOLD, lambda: FedNova(mu=0.1)],
    ids=["prox", "scaffold", "nova"],
)
@pytest.mark.parametrize("engine", [Loop, Stacked])
def test_an_optimizer_that_climbs_is_refused_where_a_correction_goes_down(algorithm, engine):
    with pytest.raises(
        ValueError, match=r"(FedProx|SCAFFOLD\(option=2\)|FedNova) .* SGD\(maximize=True\) goes up"
    ):
        trainer(1).fit(Federation(Negative(), algorithm(), engine=engine()), both_points())


@pytest.mark.parametrize(
    "algorithm",
    [
        lambda: MOON("network.2"),
        FedNTD,
        lambda: FedProto("network.0", classes=3),
        lambda: FedMD(batch_size=4),
    ],
    ids=["moon", "fedntd", "fedproto", "fedmd"],
)
def test_an_optimizer_that_climbs_is_refused_where_a_loss_is_added(algorithm):
    with pytest.raises(ValueError, match=r"SGD\(maximize=True\) goes up: leave maximize False"):
        federate(algorithm(), module=Classifier(net(1, classes=3), 3, optimizer=climbs))


@pytest.mark.parametrize(
    "make",
    [
        FedAvg, lambda: FedProx(mu=0.0), FedNova, lambda: SCAFFOLD(option=1), FedLin, Mime, MimeLite, FedShuffle,
        FedShuffleMVR,
    ],
)  # fmt: skip
def test_climbing_the_negative_loss_is_descending_the_loss(make):
    ends = []
    for module in (Negative(), Quadratic(lr=RATE)):
        trainer(3).fit(Federation(module, make(), LocalTraining(epochs=3), seed=1), both_points())
        ends.append(module.x.item())
    assert ends[0] == ends[1] != 0.0
