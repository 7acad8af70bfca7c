"""What is measured after a fit is what the fit has trained, however often a module makes its layers."""

import textwrap
import warnings

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lkd import lightning_cli
from lkd.federated import Federation
from lkd.made_again import keeping

from .federated.quadratic import loader, trainer
from .federated.test_rounds import samples

X = torch.linspace(-1, 1, 12).view(4, 3)


class Anew(LightningModule):
    """Makes its layers whenever it is set up."""

    def setup(self, stage):
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/sum", self.net(batch).abs().sum())

    def test_step(self, batch, batch_idx):
        self.log("test/sum", self.net(batch).abs().sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class InConfigure(Anew):
    def setup(self, stage):
        pass

    def configure_model(self):
        Anew.setup(self, "")


@pytest.mark.parametrize("make", [Anew, InConfigure])
@pytest.mark.parametrize("others", [False, True])
def test_a_federation_measures_what_it_has_trained(make, others, tmp_path):
    federation = Federation(make(), other_models=[make()] if others else None)
    saved = ModelCheckpoint(tmp_path)
    runs = trainer(2, enable_checkpointing=True, callbacks=[saved])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".* anew")
        runs.fit(federation, loader(samples()))
    before = {name: value.clone() for name, value in federation.state_dict().items()}
    client = federation.model.eval()
    expected = float(client.net(X).abs().sum())
    again = r"makes net\.0\.weight, net\.0\.bias, .* anew; the weights of before were put back"
    with pytest.warns(UserWarning, match=again):
        (found,) = runs.validate(federation, [X[None]], verbose=False)
    assert found["val/sum"] == pytest.approx(expected)
    (found,) = runs.test(federation, [X[None]], verbose=False, ckpt_path="best")
    assert found["test/sum"] == pytest.approx(expected)
    (found,) = trainer(1).test(federation, [X[None]], verbose=False)
    assert found["test/sum"] == pytest.approx(expected)
    assert all(torch.equal(before[name], value) for name, value in federation.state_dict().items())


def test_the_command_line_measures_what_it_has_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = """
        import torch
        from lightning.pytorch import LightningDataModule
        from torch.utils.data import DataLoader

        class Rows(LightningDataModule):
            def train_dataloader(self):
                return DataLoader([(torch.ones(3), i % 2) for i in range(8)], batch_size=4)

            def test_dataloader(self):
                return DataLoader(torch.eye(3), batch_size=3)
    """
    (tmp_path / "rows_of_three.py").write_text(textwrap.dedent(data))
    monkeypatch.syspath_prepend(tmp_path)
    trains = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    config = {
        "model": {"class_path": f"{__name__}.Anew"},
        "data": {"class_path": "rows_of_three.Rows"},
        "trainer": trains,
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config))
    with pytest.warns(UserWarning, match=r"Anew\.setup makes net\.0\.weight, .* put back: make layers once"):
        run = lightning_cli.run(["fit", "--config", "x.yaml"])
    path = next(tmp_path.rglob("last.ckpt"))
    trained = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(trained[name], value) for name, value in run.model.state_dict().items())
    net = run.model.net.eval()
    assert float(run.trainer.callback_metrics["test/sum"]) == pytest.approx(
        float(net(torch.eye(3)).abs().sum())
    )
    assert "setup" not in vars(run.model)


class Given(LightningModule):
    def __init__(self, hook):
        super().__init__()
        self.net, self.hook = nn.Linear(2, 2), hook

    def setup(self, stage):
        self.hook(self)


def again(hook, trained=True):
    module = Given(hook)
    with keeping(module, "setup", trained):
        module.setup("test")
    return module


def test_a_trained_layer_in_another_shape():
    with pytest.raises(
        ValueError, match=r"Given\.setup makes net\.weight anew in the shape \(3, 2\), .* \(2, 2\)"
    ):
        again(lambda module: setattr(module, "net", nn.Linear(2, 3)))


def test_what_is_changed_in_place_stays_with_a_warning():
    with pytest.warns(UserWarning, match=r"changes or takes away net\.weight, so that what was trained"):
        module = again(lambda module: nn.init.zeros_(module.net.weight))
    assert not module.net.weight.any()


def test_placeholders_of_before_the_first_run_may_be_replaced():
    with pytest.warns(UserWarning, match=r"makes net\.weight, net\.bias anew: the weights .* are gone"):
        module = again(lambda module: setattr(module, "net", nn.Linear(2, 3)), trained=False)
    assert module.net.weight.shape == (3, 2)


@pytest.mark.parametrize(
    "hook",
    [
        lambda module: None,
        lambda module: setattr(module, "more", nn.Linear(2, 2)),
        lambda module: setattr(module, "net", torch.compile(module.net, backend="eager")),
        lambda module: module.register_buffer("seen", torch.zeros(())),
        lambda module: setattr(module, "net", nn.Sequential(module.net)),
    ],
)
@pytest.mark.parametrize("trained", [True, False])
def test_no_false_alarm(hook, trained, recwarn):
    again(hook, trained)
    assert not recwarn.list
