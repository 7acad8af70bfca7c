"""Schedulers of clients that wait for a metric, or that are made for a whole training."""

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.federated.client.configured_optimizers import parse

from .quadratic import loader, trainer
from .test_rounds import Samples


class Held(Samples):
    """With validation data: two batches of its training data."""

    def has(self, part):
        return part in ("train", "val")


class Rates(LightningModule):
    """Notes the rate of every step, by client; what it logs follows `script`, a value for each of a client's rounds."""

    def __init__(self, schedule, script=None, log_in="val"):
        super().__init__()
        self.net, self.schedule, self.script, self.log_in = nn.Linear(3, 2), schedule, script, log_in
        self.rates, self.measured = {}, {}

    def training_step(self, batch, batch_idx):
        client = round(batch[0].mean().item())
        self.client = min(max(client, 0), 1)
        self.rates.setdefault(self.client, []).append(self.optimizers().param_groups[0]["lr"])
        if self.script and self.log_in == "train":
            self.log("value", self.script[self.client][self.current_epoch])
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        if self.script and self.log_in == "val":
            self.log("value", self.script[self.client][self.current_epoch])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.5)
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, self)}


def waiting(**kwargs):
    def schedule(optimizer, module):
        plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return {"scheduler": plateau, "monitor": "value", **kwargs}

    return schedule


def clients(kind=Held):
    """Of two steps and of three."""
    both = [kind(0, 8, 2), kind(1, 12, 2)]
    both[1].x = both[1].x * 0 + 1.0  # so that the batches say whose they are
    both[0].x = both[0].x * 0
    return both


def fit(module, rounds, kind=Held):
    federation = Federation(module, FedAvg(), LocalTraining(epochs=1))
    made = trainer(rounds)
    made.fit(federation, loader(clients(kind)))
    return federation.students[0], made


SCRIPT = {0: [5.0, 6.0, 7.0, 1.0, 2.0], 1: [5.0, 4.0, 3.0, 3.5, 3.6]}
"""Client 0 is worse in rounds 1, 2, 4; client 1 in rounds 3 and 4."""


@pytest.mark.parametrize("where", ["val", "train"])
def test_each_client_has_a_plateau_of_its_own(where):
    student, _ = fit(Rates(waiting(), SCRIPT, where), 5, Held if where == "val" else Samples)
    assert student.rates[0][::2] == [1.0, 1.0, 0.5, 0.25, 0.25]
    assert student.rates[1][::3] == [1.0, 1.0, 1.0, 1.0, 0.5]


def test_a_plateau_steps_every_so_many_rounds():
    student, _ = fit(Rates(waiting(frequency=2), SCRIPT), 5)
    assert student.rates[0][::2] == [1.0, 1.0, 1.0, 1.0, 1.0]  # 6, then 1
    assert student.rates[1][::3] == [1.0] * 5  # 4, then 3.5


def test_a_plateau_goes_on_where_a_run_was_interrupted(tmp_path):
    def run(rounds, folder, resume=None):
        torch.manual_seed(0)
        federation = Federation(Rates(waiting(), SCRIPT), FedAvg(), LocalTraining(epochs=1))
        save = ModelCheckpoint(tmp_path / folder, save_last=True)
        made = trainer(rounds, enable_checkpointing=True, callbacks=[save])
        made.fit(federation, loader(clients()), ckpt_path=resume)
        return federation

    whole, _ = run(5, "whole"), run(2, "half")
    resumed = run(5, "rest", tmp_path / "half" / "last.ckpt")
    assert resumed.students[0].rates[0] == whole.students[0].rates[0][4:]
    assert torch.equal(resumed.model.net.weight, whole.model.net.weight)
    kept = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["federation"]["clients"]
    assert kept[0]["schedule"]["rates"].tolist() == [0.125]
    federation = Federation(Rates(waiting(), SCRIPT))  # another fit with these weights begins anew
    federation.load_state_dict(torch.load(tmp_path / "whole" / "last.ckpt")["state_dict"])
    trainer(1).fit(federation, loader(clients()))
    assert federation.students[0].rates[0][0] == 1.0


@pytest.mark.parametrize("kind", [Samples, Held])
def test_a_plateau_of_what_nobody_logs_is_refused_with_the_modules_name(kind):
    with pytest.raises(ValueError, match=r"Rates of client client0 waits with ReduceLROnPlateau for 'value'"):
        fit(Rates(waiting()), 3, kind)
    with pytest.warns(UserWarning, match="waits with ReduceLROnPlateau for 'value'"):
        student, _ = fit(Rates(waiting(strict=False)), 1, kind)
    assert student.rates[0] == [1.0, 1.0]


@pytest.mark.parametrize(("monitor", "rates"), [("value_epoch", [1.0, 0.5]), ("value_step", [1.0, 1.0])])
def test_a_plateau_knows_lightnings_names_of_a_mean_and_a_last_step(monitor, rates):
    class Both(Rates):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            value = [[3.0, 3.0], [6.0, 2.0]][self.current_epoch][len(self.rates[0]) % 2 - 1]
            self.log("value", value, on_step=True, on_epoch=True)
            return loss

    federation = Federation(Both(waiting(monitor=monitor)), FedAvg(), LocalTraining(epochs=1))
    trainer(2).fit(federation, loader(clients(Samples)[:1] + clients(Samples)[1:2]))
    kept = federation.engine.host.store.get(0)["schedule"]
    assert kept["rates"].item() == rates[1] and kept["best"].item() == {0.5: 3.0, 1.0: 2.0}[rates[1]]


def test_a_plateau_of_a_validation_without_data_is_refused_before_training():
    class Never(Rates):
        def training_step(self, batch, batch_idx):
            raise AssertionError

    with pytest.raises(
        ValueError, match=r"Never waits with .* 'val_loss', and client client1 has no validation"
    ):
        people = clients()
        people[1].has = lambda part: part == "train"
        trainer(1).fit(Federation(Never(waiting(monitor="val_loss"))), loader(people))
    student, _ = fit(Rates(waiting(monitor="val_loss", strict=False)), 1, Samples)
    assert student.rates[0] == [1.0, 1.0]


def test_a_plateau_of_a_name_that_is_nearly_right():
    with pytest.raises(ValueError, match=r"only \['value'\] \(did you mean 'value'\?\)"):
        fit(Rates(waiting(monitor="valu"), SCRIPT), 1)


def test_a_plateau_that_cannot_be_is_refused():
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    for more, wrong in (({}, "no monitor"), ({"monitor": "x", "interval": "step"}, "interval='step'")):
        with pytest.raises(ValueError, match=f"Net uses ReduceLROnPlateau with {wrong}"):
            parse({"optimizer": sgd, "lr_scheduler": {"scheduler": ReduceLROnPlateau(sgd), **more}}, "Net")


def cycle(optimizer, module):
    steps = module.trainer.estimated_stepping_batches
    return {"scheduler": OneCycleLR(optimizer, max_lr=1.0, total_steps=steps), "interval": "step"}


def warmup(optimizer, module):
    """As transformers' schedules: a function of the step and of all steps."""
    steps = module.trainer.estimated_stepping_batches
    return {"scheduler": LambdaLR(optimizer, lambda k: 1 - k / steps), "interval": "step"}


@pytest.mark.parametrize("schedule", [cycle, warmup])
def test_a_schedule_of_all_steps_is_over_all_rounds_of_a_client(schedule):
    student, made = fit(Rates(schedule), 4)
    for client, steps in ((0, 2), (1, 3)):  # steps in each of four rounds
        module = Rates(schedule)
        module.trainer = type("All", (), {"estimated_stepping_batches": 4 * steps})()
        configured = parse(module.configure_optimizers(), "Rates")
        wanted = []
        for _ in range(4 * steps):
            wanted.append(configured.optimizer.param_groups[0]["lr"])
            configured.optimizer.step()
            configured.scheduler.step()
        assert student.rates[client] == pytest.approx(wanted, rel=1e-12)
    assert student.trainer is made and made.estimated_stepping_batches == 4  # elsewhere, rounds


def test_a_schedule_of_all_steps_goes_on_in_a_resumed_run_and_does_not_disturb_a_measurement(tmp_path):
    def run(rounds, folder, resume=None):
        federation = Federation(Rates(cycle), FedAvg(), LocalTraining(epochs=1))
        save = ModelCheckpoint(tmp_path / folder, every_n_epochs=2, save_top_k=-1, filename="{epoch}")
        made = trainer(rounds, enable_checkpointing=True, callbacks=[save])
        made.fit(federation, loader(clients()), ckpt_path=resume)
        return federation

    whole = run(4, "whole")
    resumed = run(4, "rest", tmp_path / "whole" / "epoch=1.ckpt")
    assert resumed.students[0].rates[0] == whole.students[0].rates[0][4:]
    assert torch.equal(resumed.model.net.weight, whole.model.net.weight)
    fresh = Federation(Rates(cycle))
    trainer(1).validate(fresh, loader_of_batches())
    assert fresh.evaluate(clients())[0].error == ""


def loader_of_batches():
    return [(torch.zeros(2, 3), torch.zeros(2).long())]


def explicit(total, interval="step"):
    return lambda optimizer, module: {"scheduler": OneCycleLR(optimizer, 1.0, total), "interval": interval}


def test_a_cycle_of_a_given_length_is_of_a_round_or_of_all_or_refused():
    with pytest.raises(
        ValueError, match=r"Rates uses OneCycleLR\(total_steps=100\), but a client makes 2 steps"
    ):
        fit(Rates(explicit(100)), 4)
    one = [Held(0, 8, 1)]
    one[0].x = one[0].x * 0

    def rates(total):
        federation = Federation(Rates(explicit(total)), FedAvg(), LocalTraining(epochs=1))
        trainer(4).fit(federation, loader(one))
        return federation.students[0].rates[0]

    anew = rates(2)
    assert anew[:2] == anew[2:4] == anew[6:]
    assert rates(8) == pytest.approx(rates_by_hand(8), rel=1e-12)


def rates_by_hand(total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.5)
    scheduler, found = OneCycleLR(optimizer, 1.0, total), []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_cycle_that_counts_rounds_must_last_as_long_as_they_do():
    with pytest.raises(
        ValueError, match=r"OneCycleLR\(total_steps=3\), whose steps are rounds here, and there are 4"
    ):
        fit(Rates(explicit(3, "epoch")), 4)
    student, _ = fit(Rates(explicit(4, "epoch")), 4)
    assert student.rates[0][::2] == pytest.approx(rates_by_hand(4), rel=1e-12)
