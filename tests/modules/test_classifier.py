"""Classifier: learning, metrics against hand counts, checkpoints, the command line."""

import warnings

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.modules import Classifier

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


def tensors(count=48):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    x = torch.randn(count, 1, 4, 4, generator=generator) * 0.3
    x[torch.arange(count), 0, y] += 2.0  # class k has a bright row k
    return x, y


class Data(LightningDataModule):
    """Three classes of bright rows."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(*tensors()), batch_size=16)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def trainer(**options):
    return Trainer(**{**QUIET, "enable_checkpointing": False, **options})


def test_learns_and_logs():
    seed_everything(0, verbose=False)
    classifier = Classifier(linear(), num_classes=3, optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
    made = trainer(max_epochs=8)
    made.fit(classifier, datamodule=Data())
    assert {"train/loss", "val/loss", "val/acc"} <= made.callback_metrics.keys()
    assert made.callback_metrics["val/acc"] > 0.95
    (tested,) = made.test(classifier, datamodule=Data(), verbose=False)
    x, y = tensors()
    with torch.no_grad():
        logits = classifier(x)
    assert tested["test/acc"] == pytest.approx((logits.argmax(1) == y).float().mean().item())
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    assert tested["test/loss"] == pytest.approx(-log_p[torch.arange(48), y].mean().item(), rel=1e-4)
    assert torch.cat(made.predict(classifier, datamodule=Data())).equal(logits)


def test_timm_network_and_its_checkpoint(tmp_path):
    classifier = Classifier("test_resnet", num_classes=3, in_channels=1)
    made = trainer()
    made.strategy.connect(classifier)
    made.save_checkpoint(tmp_path / "c.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "c.ckpt", weights_only=True).eval()
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(again(x), classifier.eval()(x))


def test_own_network_is_no_hyper_parameter(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Lightning warns of modules among hyper-parameters
        classifier = Classifier(linear(), num_classes=3)
    assert set(classifier.hparams) == {"num_classes", "in_channels"}
    made = trainer(max_epochs=1)
    made.fit(classifier, datamodule=Data())
    made.save_checkpoint(tmp_path / "c.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "c.ckpt", weights_only=True, network=linear())
    assert torch.equal(again(tensors()[0]), classifier(tensors()[0]))
    more = trainer(max_epochs=2)
    more.fit(
        Classifier(linear(), num_classes=3),
        datamodule=Data(),
        ckpt_path=tmp_path / "c.ckpt",
        weights_only=True,
    )
    assert more.global_step == 6


class Flat(Data):
    """The same as vectors."""

    def train_dataloader(self):
        x, y = tensors()
        return DataLoader(TensorDataset(x.flatten(1), y), batch_size=16)

    val_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_command_line_run_resume_and_reload(tmp_path):
    (tmp_path / "config.yaml").write_text("""
model:
  class_path: lkd.modules.Classifier
  init_args:
    network: {class_path: torch.nn.Linear, init_args: {in_features: 16, out_features: 3}}
    num_classes: 3
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.25}}
    scheduler: {class_path: lightning.pytorch.cli.ReduceLROnPlateau, init_args: {monitor: val/loss}}
""")

    def cli(*arguments):
        return LightningCLI(
            LightningModule,
            Flat,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            seed_everything_default=1,
            save_config_callback=None,
            trainer_defaults=QUIET,
            args=[
                "fit",
                "--config",
                str(tmp_path / "config.yaml"),
                f"--trainer.default_root_dir={tmp_path}",
                *arguments,
            ],
        )

    whole = cli("--trainer.max_epochs=2")
    assert whole.trainer.optimizers[0].param_groups[0]["lr"] == 0.25
    cli("--trainer.max_epochs=1").trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = cli("--trainer.max_epochs=2", f"--ckpt_path={tmp_path / 'half.ckpt'}")
    assert torch.equal(resumed.model.network.weight, whole.model.network.weight)
    again = LightningModule.load_from_checkpoint(tmp_path / "half.ckpt", weights_only=True)
    assert isinstance(again.network, nn.Linear)


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_command_line_takes_a_timm_name():
    made = LightningCLI(
        Classifier,
        Data,
        run=False,
        save_config_callback=None,
        trainer_defaults=QUIET,
        args=["--model.network=test_resnet", "--model.num_classes=3"],
    )
    assert type(made.model.network).__name__ == "ResNet"
    assert isinstance(made.model.configure_optimizers()["optimizer"], torch.optim.AdamW)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (torch.zeros(2, 1, 4, 4), ValueError, "unlabeled data needs distillation"),
        ([torch.zeros(2, 1, 4, 4)], ValueError, "unlabeled data needs distillation"),
        (
            (torch.zeros(2, 1, 4, 4), torch.tensor([0, 3])),
            ValueError,
            r"labels from 0 to 3: num_classes is 3, .* from 0 to 2; set",
        ),
        ((torch.full((2, 1, 4, 4), torch.nan), torch.tensor([0, 1])), FloatingPointError, "not finite"),
        (  # a weight for each sample would be passed over
            (torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), torch.ones(2)),
            ValueError,
            r"no \(x, y\) tuple of images and labels",
        ),
    ],
)
def test_bad_batches(batch, error, message):
    with pytest.raises(error, match=message):
        Classifier(linear(), num_classes=3).training_step(batch)


def test_numbers_of_samples_are_left_to_the_distillation():
    x, y = torch.randn(2, 1, 4, 4), torch.tensor([0, 2])
    module = Classifier(linear(), num_classes=3)
    loss = module.training_step((x, y, torch.tensor([[0, 17], [2, 4]])))
    assert torch.equal(loss, module.training_step((x, y)))


def test_another_criterion_is_trained_and_measured():
    x, y = torch.randn(4, 1, 4, 4), torch.tensor([0, 2, 1, 1])
    module = Classifier(linear(), num_classes=3, criterion=nn.MultiMarginLoss(margin=2.0))
    logits = module(x)
    right = logits.gather(1, y[:, None])
    wrong = (2 - right + logits).clamp_min(0).sum(1) - 2  # less that of the right class itself
    torch.testing.assert_close(module.training_step((x, y)), (wrong / 3).mean())
    assert "criterion" not in module.hparams and not [
        name for name in module.state_dict() if "criterion" in name
    ]


def test_unknown_timm_name_suggests_near_ones():
    with pytest.raises(ValueError, match=r"'resnet_18' is no timm model; near ones: .*resnet18"):
        Classifier("resnet_18")
