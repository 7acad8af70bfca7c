"""What a run would stumble over after its training is found before it."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.cli import main
from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import Federation
from lkd.modules import Classifier, MutualLearning
from lkd.preflight import Preflight, check_folders

ROOT = Path(__file__).parents[1]
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def trainer(*callbacks, make_data=None, **options):
    given = {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, **QUIET}
    return Trainer(callbacks=[Preflight(make_data), *callbacks], **{**given, **options})


class TrainingError(Exception):
    """Training has begun."""


class Net(Classifier):
    """Says when it trains."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    def training_step(self, batch, batch_idx=0):
        raise TrainingError


class Tensors(LightningDataModule):
    """Pictures with labels; the test's as they are given."""

    def __init__(self, test=(8, 10)):
        super().__init__()
        self.test = test

    def _loader(self, entries):
        tensors = [torch.zeros(4, 1, 8, 8), torch.arange(4)]
        return DataLoader(TensorDataset(*tensors[:entries]), batch_size=2)

    def train_dataloader(self):
        return self._loader(2)

    val_dataloader = train_dataloader

    def test_dataloader(self):
        return self._loader(self.test)


class Needs(Tensors):
    """Makes in `prepare_data` what its test needs."""

    def prepare_data(self):
        self.number = 2

    def test_dataloader(self):
        return self._loader(self.number)


def test_test_data_without_labels_are_found_before_training():
    for module in (Net(), MutualLearning([nn.Flatten(), nn.Flatten()], 64)):
        with pytest.raises(
            ValueError,
            match=r"the test after fit would fail \(the batch is no \(x, y\) tuple .*test_after_fit",
        ):
            trainer(make_data=lambda: Tensors(1)).fit(module, Tensors(1))


def test_a_federations_test_data_are_shown_to_its_client():
    data = {"data": Tensors(1), "partition": IID(), "clients": 2}
    with pytest.raises(ValueError, match=r"the test after fit would fail \(the batch is no"):
        trainer(make_data=lambda: FederatedDataModule(**data)).fit(
            Federation(Net()), FederatedDataModule(**data)
        )


def test_good_test_data_of_their_own_leave_the_fit_alone():
    """Neither its data nor what it draws."""
    data, made, drawn = Tensors(2), [], []
    for make in (None, lambda: made.append(Tensors(2)) or made[0]):
        torch.manual_seed(3)
        with pytest.raises(TrainingError):
            trainer(make_data=make, num_sanity_val_steps=0).fit(Net(), data)
        drawn.append(torch.rand(1))
    assert made[0] is not data and torch.equal(*drawn)


def test_data_that_need_more_than_setup_are_only_warned_of():
    with (
        pytest.warns(UserWarning, match="could not be looked at before training: AttributeError"),
        pytest.raises(TrainingError),
    ):
        trainer(make_data=Needs).fit(Net(), Needs())


@pytest.mark.parametrize(
    "callback",
    [ModelCheckpoint(monitor="val/accc"), EarlyStopping("val/accc")],
    ids=lambda c: type(c).__name__,
)
def test_a_metric_that_validation_does_not_log_is_found_before_training(callback, tmp_path):
    options = {"enable_checkpointing": True} if isinstance(callback, ModelCheckpoint) else {}
    module = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    name = type(callback).__name__
    with pytest.raises(ValueError, match=rf"monitor='val/accc' of {name}: .* did you mean 'val/acc'\?"):
        trainer(callback, default_root_dir=tmp_path, **options).fit(module, Digits())


@pytest.mark.parametrize("monitor", ["val/acc", "val/acc/C7", "train/loss_epoch", "loss"])
def test_a_metric_that_is_or_may_be_logged_is_left_alone(monitor):
    with pytest.raises(TrainingError):
        trainer(EarlyStopping(monitor)).fit(Net(), Digits())


def test_a_schedulers_metric_too():
    class Plateau(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), 0.1)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/los"}}

    Plateau.__module__ = "lkd.modules.classifier"
    with pytest.raises(
        ValueError, match=r"monitor='val/los' of ReduceLROnPlateau: .* did you mean 'val/loss'\?"
    ):
        trainer().fit(Plateau(), Digits())


def test_a_module_of_ones_own_may_log_less_in_the_check():
    class Own(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def training_step(self, batch, batch_idx):
            raise TrainingError

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 1.0)
            if not self.trainer.sanity_checking:
                self.log("val_map", 1.0)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    with pytest.warns(UserWarning, match="monitor='val_map' of EarlyStopping"), pytest.raises(TrainingError):
        trainer(EarlyStopping("val_map")).fit(Own(), Digits())
    with (
        pytest.warns(UserWarning, match="monitor='valid_loss' of .*'val_loss'"),
        pytest.raises(TrainingError),
    ):
        trainer(EarlyStopping("valid_loss")).fit(Own(), Digits())
    with pytest.raises(
        ValueError, match=r"monitor='val/loss' of EarlyStopping: .* did you mean 'val_loss'\?"
    ):
        trainer(EarlyStopping("val/loss")).fit(Own(), Digits())


def test_what_a_federations_clients_wait_for_is_looked_for_too():
    class Waiting(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), 0.1)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}

    data = FederatedDataModule(Digits(), IID(), clients=2, client_fractions=[0.8, 0.2, 0.0])
    with pytest.raises(ValueError, match=r"monitor='val_loss' of the plateau of Waiting: .*'val/loss'\?"):
        trainer().fit(Federation(Waiting()), data)


def test_a_folder_under_a_file_is_found_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"dirpath of ModelCheckpoint='.*file/deep' cannot be written: .*file is a file"
    ):
        check_folders(trainer(ModelCheckpoint(tmp_path / "file" / "deep"), enable_checkpointing=True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_before_training(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="no permission"):
        check_folders(trainer(ModelCheckpoint(tmp_path / "closed" / "x"), enable_checkpointing=True))


# ---- from the command line


def pictures(root):
    """A folder of two classes in three official parts."""
    for part, name in ((p, n) for p in ("train", "val", "test") for n in ("cat", "dog")):
        (root / part / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (8, 8), (60 * k, 9, 9)).save(root / part / name / f"{k}.png")


def fit(*more):
    main(["fit", "--config", str(ROOT / "configs/classification/digits.yaml"), "--distillation=null", "--trainer.max_epochs=1",
          "--trainer.enable_progress_bar=false", "--trainer.limit_train_batches=1", *more])  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_detection_labels_of_the_test_are_missed_before_training(here):
    """Its training is unlabeled, so that no label was read until then."""
    (here / "set/images").mkdir(parents=True)
    (here / "set/labels").mkdir()
    for k in range(6):
        Image.new("RGB", (64, 64)).save(here / f"set/images/cam_{k}.png")
    options = ["--model=Detector", "--model.num_classes=1", "--model.network=TorchvisionDetector", "--model.network.head=fcos",
               "--model.network.backbone=test_resnet", "--model.network.channels=64", "--data=YoloFolder", "--data.root=set", "--data.unlabeled=true",
               "--data.image_size=64", "--data.fractions=[0.6, 0.0, 0.4]", "--trainer.callbacks=null"]  # fmt: skip
    with pytest.raises(
        SystemExit, match=r"the test after fit would fail \(.*label.*\); --test_after_fit=false trains"
    ):
        fit(*options)


@pytest.mark.parametrize(
    "option", ["--trainer.logger.save_dir=file/runs", "--trainer.callbacks+=ModelCheckpoint"]
)
def test_folders_are_looked_at(here, option):
    (here / "file").write_text("")
    more = ["--trainer.callbacks.dirpath=file/deep"] if "Checkpoint" in option else []
    with pytest.raises(SystemExit, match=r"='.*file/\w+' cannot be written: .*/file is a file"):
        fit(option, *more)


def test_a_missing_teacher_and_recipe_are_found_first(here):
    digits = str(ROOT / "configs/classification/digits.yaml")
    for what, sentence in (
        ("model=gone.ckpt", "gone.ckpt"),
        ("recipe=gone.yaml", "recipe='gone.yaml' does not exist"),
    ):
        more = ["--distillation.teacher.recipe=null"] if "ckpt" in what else []
        with pytest.raises(SystemExit, match=sentence):
            main(["fit", "--config", digits, *more, f"--distillation.teacher.{what}"])
    assert not list(here.rglob("metrics.csv"))


def test_a_run_that_does_not_test_looks_at_no_test_data(here):
    pictures(here / "set")
    shutil.rmtree(here / "set/test")
    (here / "set/test").mkdir()
    fit("--test_after_fit=false", "--trainer.limit_val_batches=0")
