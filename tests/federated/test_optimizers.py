"""Optimizers of people's own begin anew at every client, wherever they keep what they remember."""

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from lkd.federated import FedAvg, Federation, LocalTraining

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
