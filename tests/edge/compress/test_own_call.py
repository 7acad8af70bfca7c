"""What users' steps and hooks do to a batch before the forward holds for calibration and pruning, too."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.distillation.own_call import own_call
from lkd.edge.compress.prune.batches import reestimate, training_batches
from lkd.edge.compress.prune.subject import subject_of
from lkd.edge.compress.quantize.frames import calibration_frames
from lkd.edge.export.kind import ExportPart
from lkd.edge.export.logits import ClassifierKind

X, Y = torch.arange(60.0).reshape(10, 6), torch.arange(10) % 3


class Pixels(LightningDataModule):
    """Samples as tuples, or as dicts with a label or without."""

    def __init__(self, form="tuple"):
        super().__init__()
        named = [{"label": y, "image": x} for x, y in zip(X, Y, strict=True)]
        bare = [{"image": x} for x in X]
        self.rows = {"tuple": TensorDataset(X, Y), "dict": named, "bare": bare}[form]

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=4)


class Hooked(Pixels):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] / 60, batch[1]]


class Own(LightningModule):
    """A user's module, whose steps find their input in the batch."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x):
        return self.net(x)

    def given(self, batch):
        return (batch["image"], batch["label"]) if isinstance(batch, dict) else batch

    def training_step(self, batch, batch_idx):
        self.log("size", len(batch))
        x, y = self.given(batch)
        return nn.functional.cross_entropy(self(x), y)

    def test_step(self, batch, batch_idx):
        return self.training_step(batch, batch_idx)


class OwnHook(Own):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] / 60, batch[1]]


class Scaling(Own):
    def given(self, batch):
        x, y = super().given(batch)
        return x / 60, y


def frames(module, data):
    part = ExportPart("", module.net, {"x": torch.zeros(2, 6)}, ["logits"], 3)
    return torch.cat(
        [
            torch.from_numpy(f["x"])
            for f in calibration_frames(ClassifierKind(module), {"": part}, data, 10)[""]
        ]
    )


@pytest.mark.parametrize(
    ("module", "data", "expected"),
    [
        (Own(), Pixels(), X),
        (Own(), Hooked(), X / 60),
        (OwnHook(), Pixels(), X / 60),
        (Scaling(), Pixels(), X / 60),
        (Own(), Pixels("dict"), X),
        (Scaling(), Pixels("dict"), X / 60),
    ],
)
def test_int8_is_calibrated_on_what_the_network_is_given(module, data, expected):
    assert torch.equal(frames(module, data), expected)
    assert "predict_step" not in vars(module) and data.trainer is None


def test_frames_without_the_input_are_refused():
    with pytest.raises(ValueError, match=r"\{'x': \(\)\}, and the file takes .* Own.test_step can take"):
        frames(Own(), Pixels("bare"))


@pytest.mark.parametrize("data", [Pixels(), Pixels("dict")])
def test_pruning_looks_at_the_network_as_its_step_calls_it(data):
    module = Scaling()
    batches = training_batches(module, data, 3, seed=0)
    assert torch.equal(subject_of(module, batches[0]).call.args[0], X[:1] / 60)
    reestimate(module, batches)
    with torch.no_grad():
        means = torch.stack([module.net[0](part / 60).mean(0) for part in X.split(4)])
    torch.testing.assert_close(module.net[1].running_mean, means.mean(0))


def test_a_module_stays_as_it_is():
    module, seen = Own(), []
    module.forward = seen.append
    state = torch.get_rng_state()
    call = own_call(module, (X, Y))
    assert call.args[0] is X and not seen and module.forward == seen.append
    assert torch.equal(state, torch.get_rng_state()) and "log" not in vars(module)


def test_a_step_that_fails_or_goes_past_the_forward_leaves_it_to_the_batch():
    class Past(Own):
        def training_step(self, batch):
            return self.net(batch[0]).sum()

    class Fails(Own):
        def training_step(self, batch, batch_idx):
            raise KeyError("mask")

    for module in (Past(), Fails()):
        assert own_call(module, (X, Y)).args == (X,)
