"""EMA against a hand-written recursion; resume bit for bit; together with callbacks that add modules."""

import copy
import math

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks.ema import EMA


class Net(LightningModule):
    """A convolution with batch norm and dropout; records what it was evaluated with."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
        self.seen = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        self.seen.append(copy.deepcopy(self.net.state_dict()))
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Record(Callback):
    """The weights after every batch."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.states.append(copy.deepcopy(pl_module.net.state_dict()))


class Adapters(Callback):
    """Adds a trained child in `setup`, with buffers, and takes it away at the end."""

    def setup(self, trainer, pl_module, stage):
        pl_module.extra = nn.ModuleDict({"a": nn.BatchNorm1d(3)})

    def teardown(self, trainer, pl_module, stage):
        del pl_module.extra


def loader():
    generator = torch.Generator().manual_seed(1)
    # four equal batches: a run resumed within an epoch starts a plain loader anew, with or without EMA
    x = torch.randn(4, 1, 4, 4, generator=generator).repeat(4, 1, 1, 1)
    return DataLoader(TensorDataset(x, torch.arange(16) % 2), batch_size=4)


def fit(callbacks, epochs=2, ckpt_path=None, **options):
    seed_everything(0, verbose=False)
    module = Net()
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        num_sanity_val_steps=1,
        **options,
    )
    trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    return module, trainer


def recursion(states, decay, tau):
    """The averages after each update, from the current weights after each update."""
    average, history = copy.deepcopy(states[0]), []
    for n, state in enumerate(states, start=1):
        d = decay * (1 - math.exp(-n / tau)) if n > 1 else 0.0
        for name, value in state.items():
            average[name] = d * average[name] + (1 - d) * value if value.is_floating_point() else value
        history.append(copy.deepcopy(average))
    return history


def close(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=name, rtol=1e-5, atol=1e-6)


def test_average_follows_the_ramp_and_is_what_is_evaluated_and_kept():
    record = Record()
    module, _ = fit([record, EMA(decay=0.9, tau=5)])
    history = recursion(record.states, 0.9, 5)
    assert len(history) == 8
    close(module.net.state_dict(), history[-1])
    sanity, first, second = module.seen[0], module.seen[1], module.seen[-1]
    assert torch.equal(sanity["1.running_mean"], torch.zeros(4))
    close(first, history[3])
    close(second, history[7])
    assert not torch.allclose(record.states[-1]["0.weight"], history[-1]["0.weight"], atol=1e-4)
    assert module.net[1].num_batches_tracked == 8  # integer buffers are copied


def test_training_itself_is_unchanged():
    with_average, without = Record(), Record()
    fit([with_average, EMA(decay=0.9, tau=5)])
    fit([without])
    for a, b in zip(with_average.states, without.states, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_accumulation_counts_optimizer_steps():
    record = Record()
    module, _ = fit([record, EMA(decay=0.9, tau=5)], accumulate_grad_batches=2)
    close(module.net.state_dict(), recursion(record.states[1::2], 0.9, 5)[-1])


def test_without_ramp():
    record = Record()
    module, _ = fit([record, EMA(decay=0.5, tau=0)])
    close(module.net.state_dict(), recursion(record.states, 0.5, 1e-9)[-1])


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(
    "every", [{"every_n_epochs": 1}, {"every_n_train_steps": 3}], ids=["epoch", "mid-epoch"]
)
def test_resumed_run_is_bit_identical(tmp_path, order, every):
    def callbacks(folder):
        saver = ModelCheckpoint(tmp_path / folder, filename="{step}", save_top_k=-1, **every)
        pair = [EMA(decay=0.9, tau=5), Adapters()]
        return [*(pair if order == "before" else pair[::-1]), saver]

    whole, trainer = fit(callbacks("whole"), epochs=3)
    step = 4 if "every_n_epochs" in every else 3
    saved = next((tmp_path / "whole").glob(f"step={step}*.ckpt"))
    resumed, again = fit(callbacks("resumed"), epochs=3, ckpt_path=saved)
    assert again.global_step == trainer.global_step == 12
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    last = sorted((tmp_path / "whole").glob("step=12*.ckpt"))[0].name
    a, b = (torch.load(tmp_path / folder / last, weights_only=True) for folder in ("whole", "resumed"))
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert a[key].keys() == b[key].keys()
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key]), key


@pytest.mark.parametrize("order", ["before", "after"])
def test_modules_added_in_setup_of_another_callback(order):
    pair = [EMA(decay=0.9, tau=5), Adapters()]
    record = Record()
    module, _ = fit([record, *(pair if order == "before" else pair[::-1])])
    close(module.net.state_dict(), recursion(record.states, 0.9, 5)[-1])


def test_checkpoint_holds_the_average(tmp_path):
    record = Record()
    saver = ModelCheckpoint(tmp_path, filename="x", every_n_epochs=2)
    fit([record, EMA(decay=0.9, tau=5), saver])
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)
    history = recursion(record.states, 0.9, 5)
    close({name.removeprefix("net."): value for name, value in stored["state_dict"].items()}, history[-1])
    current = {name.removeprefix("net."): value for name, value in stored["current_model_state"].items()}
    close(current, record.states[-1])


def test_a_second_fit_averages_anew():
    ema = EMA(decay=0.9, tau=5)
    fit([ema])
    record = Record()
    module, _ = fit([record, ema])
    close(module.net.state_dict(), recursion(record.states, 0.9, 5)[-1])


def test_validation_of_another_module_after_fit_swaps_nothing():
    _, trainer = fit([EMA(decay=0.9, tau=5)])
    other = Net()
    before = copy.deepcopy(other.net.state_dict())
    trainer.validate(other, loader(), verbose=False)
    close(other.seen[0], before)


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"tau": -1.0}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EMA(**options)
