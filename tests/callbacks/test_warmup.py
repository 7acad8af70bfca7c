"""WarmUp against closed forms of the learning rate, with and without schedulers."""

import copy
import math

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from lkd.callbacks.warmup import WarmUp


class Net(LightningModule):
    """One weight with a gradient of 1, so the weight's decrements are the rates."""

    def __init__(self, scheduler=None, interval="step", momentum=0.0, adam=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.scheduler, self.interval, self.momentum, self.adam = scheduler, interval, momentum, adam
        self.path = [0.0]

    def training_step(self, batch, batch_idx):
        return self.weight.sum()

    def on_train_batch_end(self, *_):
        self.path.append(self.weight.item())

    def rates(self):
        return [a - b for a, b in zip(self.path, self.path[1:], strict=False) if a != b]

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.4, momentum=self.momentum)
        if self.adam:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.4, betas=(0.9, 0.99))
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": self.interval},
        }


def fit(module, callbacks, epochs=2, ckpt_path=None, **options):
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **options,
    )
    trainer.fit(module, DataLoader(torch.zeros(6, 1), batch_size=1), ckpt_path=ckpt_path)
    return module, trainer


def factors(count, steps, start):
    return [min(1.0, start + (1 - start) * i / steps) for i in range(count)]


def test_linear_rise_then_the_optimizers_own_rate():
    module, trainer = fit(Net(), [WarmUp(steps=5, start_factor=0.1)])
    assert module.rates() == pytest.approx([0.4 * f for f in factors(12, 5, 0.1)])
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.4


def test_agrees_with_torchs_linear_schedule():
    module, _ = fit(Net(), [WarmUp(steps=7, start_factor=0.2)])
    reference, _ = fit(Net(lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.2, total_iters=7)), [])
    assert module.rates() == pytest.approx(reference.rates())


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_multiplies_a_recursive_cosine(interval):
    total = 12 if interval == "step" else 2
    module, _ = fit(
        Net(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, total), interval),
        [WarmUp(steps=8, start_factor=0.1)],
    )
    ticks = range(12) if interval == "step" else [step // 6 for step in range(12)]
    cosine = [0.2 * (1 + math.cos(math.pi * tick / total)) for tick in ticks]
    assert module.rates() == pytest.approx([c * f for c, f in zip(cosine, factors(12, 8, 0.1), strict=True)])


def test_accumulated_batches_count_once():
    module, _ = fit(Net(), [WarmUp(steps=4, start_factor=0.1)], accumulate_grad_batches=2)
    assert module.rates() == pytest.approx([0.4 * f for f in factors(6, 4, 0.1)])


def test_epochs_in_optimizer_steps():
    module, _ = fit(Net(), [WarmUp(epochs=1.5, start_factor=0.0)], accumulate_grad_batches=4)
    # 6 batches, two by four: steps after batches 4 and 6, so an epoch has 2 steps and the warm-up 3
    # (the second step of an epoch has half the gradient; the first step of all does nothing)
    gradients = [0.5, 1.0, 0.5]
    wanted = [0.4 * f * g for f, g in zip(factors(4, 3, 0.0)[1:], gradients, strict=True)]
    assert module.rates() == pytest.approx(wanted)


def test_momentum_rises_to_the_optimizers_own():
    seen = []

    class Watch(WarmUp):
        def on_train_start(self, trainer, pl_module):
            super().on_train_start(trainer, pl_module)
            optimizer = trainer.optimizers[0]
            key = "betas" if pl_module.adam else "momentum"
            optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0][key]))

    for adam in (False, True):
        seen.clear()
        _, trainer = fit(Net(momentum=0.9, adam=adam), [Watch(steps=4, momentum=0.5)])
        wanted = [min(0.9, 0.5 + 0.4 * i / 4) for i in range(12)]
        assert [value[0] if adam else value for value in seen] == pytest.approx(wanted)
        group = trainer.optimizers[0].param_groups[0]
        assert group["betas"] == (0.9, 0.99) if adam else group["momentum"] == 0.9


@pytest.mark.parametrize("at", [3, 6])
def test_resumed_run_is_identical(tmp_path, at):
    def make():
        return Net(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12), momentum=0.9)

    saver = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=3)
    whole, _ = fit(make(), [WarmUp(steps=8), saver])
    resumed, trainer = fit(make(), [WarmUp(steps=8)], ckpt_path=tmp_path / f"step={at}.ckpt")
    assert resumed.weight.item() == whole.weight.item()
    assert resumed.path[1:] == whole.path[at + 1 :]
    assert trainer.global_step == 12


def test_hooks_are_gone_after_fit():
    _, trainer = fit(Net(), [WarmUp(steps=100, start_factor=0.0)])
    optimizer = trainer.optimizers[0]
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    copy.deepcopy(optimizer.state_dict())


def test_zero_steps_is_no_warm_up():
    module, _ = fit(Net(), [WarmUp(steps=0)], epochs=1)
    assert module.rates() == pytest.approx([0.4] * 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either steps or epochs"),
        ({"steps": 1, "epochs": 1}, "either steps or epochs"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 1, "start_factor": 2.0}, "start_factor"),
        ({"steps": 1, "momentum": 1.0}, "momentum"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        WarmUp(**options)


def test_epochs_of_unknown_length():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield torch.zeros(1)

    trainer = Trainer(
        max_steps=2, callbacks=[WarmUp(epochs=1)], logger=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="give steps instead"):
        trainer.fit(Net(), DataLoader(Endless()))
