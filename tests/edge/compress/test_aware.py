"""int8 that is trained for."""

import csv

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation
from lkd.edge import Exported
from lkd.edge.compress import Limits, Parent, QuantizationAware, Quantize, compress
from lkd.edge.compress.aware import _Rounding
from lkd.losses import KD

from ..students import Samples, classifier, save
from .processor import EXACT

pytestmark = pytest.mark.usefixtures("quick")


class Data(Samples):
    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, self.y), batch_size=5)


@pytest.fixture
def run(tmp_path):
    def call(*steps, **limits):
        ckpt = save(classifier(), tmp_path / "x.ckpt", epoch=0, global_step=0)
        given = {"max_drop": 0.3, "allow_slower": True, **limits}
        paths = compress(
            classifier(seed=1), Data(), ckpt, steps, Limits(**given), folder=str(tmp_path / "out")
        )
        with (tmp_path / "out/stages.csv").open(newline="") as file:
            return paths, {row["stage"]: row for row in csv.DictReader(file)}

    return call


def aware(**kwargs):
    return QuantizationAware(
        2, [Distillation(Parent(), [KD(temperature=2.0)], alpha=0.5)], calibration=6, **kwargs
    )


def test_weights_are_trained_rounded_and_the_file_is_int8(run, tmp_path, monkeypatch):
    seen = []
    original = _Rounding.setup

    def setup(self, trainer, module, stage):
        original(self, trainer, module, stage)
        seen.append({name for name, layer in module.named_modules() if "forward" in vars(layer)})

    monkeypatch.setattr(_Rounding, "setup", setup)
    (path,), rows = run(aware())
    assert seen == [{"network.1"}]  # the last layer stays float
    assert rows["1 quantization-aware"]["kept"] == "yes"
    checkpoint = torch.load(tmp_path / "out/1_quantization-aware/last.ckpt", weights_only=True)
    assert checkpoint["state_dict"].keys() == classifier().state_dict().keys()
    assert not torch.equal(checkpoint["state_dict"]["network.1.weight"], classifier().network[1].weight)
    trained = classifier()
    trained.load_state_dict(checkpoint["state_dict"])
    with torch.no_grad():
        wanted = trained.eval()(Data().x)
    assert abs(Exported(path)(Data().x.numpy()) - wanted.numpy()).max() < (0.05 if EXACT else 0.25)
    assert Exported(path).card["compression"]["stage"] == "1 quantization-aware"


def test_behind_a_quantize_that_is_kept_it_does_not_run(run, tmp_path):
    _, rows = run(Quantize(calibration=6), aware())
    assert rows["2 quantization-aware"]["kept"] == "no: not run: 1 quantize obeys the limits"


def test_behind_one_that_is_not_kept_it_starts_from_the_weights(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lkd.edge.compress.running.against", lambda m, limits, step, *_: ["why"] * isinstance(step, Quantize)
    )
    _, rows = run(Quantize(calibration=6, sensitivity=False), aware())
    assert rows["1 quantize"]["kept"] == "no: why" and rows["2 quantization-aware"]["kept"] == "yes"


def test_what_cannot_be_rounded_in_training(run, monkeypatch):
    monkeypatch.setattr("lkd.edge.compress.aware.Calibrated.input_ranges", lambda self: {})
    with pytest.raises(ValueError, match=r"none of the student's int8 layers .* use Quantize"):
        run(aware())
    with pytest.raises(ValueError, match=r"calibration=0"):
        QuantizationAware(1, calibration=0)


def test_rounding_ends_with_an_error():
    net = nn.Sequential(nn.Linear(2, 2))
    rounding = _Rounding({"0": (0.0, 1.0)})
    rounding.setup(None, net, "fit")
    assert "forward" in vars(net[0])
    rounding.teardown(None, net, "fit")
    assert "forward" not in vars(net[0])
