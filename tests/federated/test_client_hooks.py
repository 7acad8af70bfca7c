"""A client's hooks are given what a Trainer gives them, in training and where models are measured."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import Federation, LocalTraining
from lkd.looks import later, looks_first

from .test_foreign_clients import Foreign
from .test_rounds import trainer


def data():
    rows = TensorDataset(torch.randn(8, 3), torch.tensor([0, 1] * 4))
    return FederatedDataModule(
        (rows, rows, rows), IID(), clients=2, batch_size=2, client_fractions=[0.5, 0.5, 0.0]
    )


class Reads(Foreign):
    """Reads the loss in the hook after a step, whatever the step has returned."""

    def __init__(self, returns=lambda loss: loss):
        super().__init__()
        self.returns, self.losses = returns, []

    def training_step(self, batch, batch_idx):
        return self.returns(super().training_step(batch, batch_idx))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"])
        self.log("loss", outputs["loss"])


@pytest.mark.parametrize("returns", [lambda loss: loss, lambda loss: {"loss": loss, "extra": 1}])
def test_outputs_are_a_dict_whatever_the_step_returns(returns):
    module, run = Reads(returns), trainer(1, limit_val_batches=0)
    run.fit(Federation(module), datamodule=data())
    assert run.callback_metrics["loss"] > 0


class Measures(Foreign):
    """Its steps need what the hooks around them make."""

    def on_validation_start(self):
        self.calls = ["start"]

    def on_validation_epoch_start(self):
        self.calls.append("epoch_start")

    def on_validation_batch_start(self, batch, batch_idx, dataloader_idx=0):
        self.calls.append("batch_start")

    def validation_step(self, batch, batch_idx):
        self.calls.append("step")
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
        self.calls.append("batch_end")
        self.log("val/loss", outputs)

    def on_validation_epoch_end(self):
        self.calls.append("epoch_end")

    def on_validation_end(self):
        self.calls.append("end")

    on_test_start, test_step, on_test_batch_end = (
        on_validation_start,
        validation_step,
        on_validation_batch_end,
    )


def test_measuring_the_server_and_the_clients_calls_all_hooks():
    module = Measures()
    federation, run, given = Federation(module), trainer(1), data()
    run.fit(federation, datamodule=given)
    batches = ["batch_start", "step", "batch_end"] * 4
    assert module.calls == ["start", "epoch_start", *batches, "epoch_end", "end"]
    records = federation.evaluate(given.clients)
    assert all(record.metrics["val/loss"] > 0 for record in records)
    run.test(federation, datamodule=given)
    assert module.calls == ["start", *["step", "batch_end"] * 4]


class Closes(Foreign):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters())


def test_an_optimizer_that_needs_a_closure_is_refused_at_once():
    with pytest.raises(ValueError, match=r"Closes\.configure_optimizers gives LBFGS, whose step calls"):
        trainer(1).fit(Federation(Closes()), datamodule=data())


class Skips(Foreign):
    def on_train_batch_start(self, batch, batch_idx):
        return -1


def test_a_hook_that_skips_the_rest_of_an_epoch_is_refused():
    with pytest.raises(ValueError, match=r"Skips\.on_train_batch_start returns -1, .* LocalTraining\(steps"):
        trainer(1, limit_val_batches=0).fit(Federation(Skips()), datamodule=data())


def refuse(values):
    raise ValueError(f"a wrong label, {values[0]:g}.")


class Doubts(Foreign):
    """Hands a check to a later look, in the second batch of its first epoch alone."""

    @looks_first
    def training_step(self, batch, batch_idx):
        self.batches = getattr(self, "batches", 0) + 1
        if self.batches == 2:
            later([torch.tensor(7.0)], refuse)
        return super().training_step(batch, batch_idx)


def test_what_an_epoch_puts_off_is_looked_at_before_the_next_begins():
    rows = TensorDataset(torch.randn(8, 3), torch.tensor([0, 1] * 4))
    given = FederatedDataModule(rows, IID(), clients=2, batch_size=2)
    with pytest.raises(Exception, match=r"a wrong label, 7\."):
        trainer(1).fit(Federation(Doubts(), local=LocalTraining(epochs=2)), datamodule=given)
