"""A federation's checkpoint as a teacher, a start, or a client's model."""

import sys
import textwrap

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lkd import lightning_cli
from lkd.checkpoints import describe, own_models, server_state
from lkd.federated import FedAvg, Federation, Local, LocalTraining, load_client
from lkd.teachers import Teacher

from .federated.quadratic import loader, trainer
from .federated.test_rounds import Samples

X = torch.linspace(-1, 1, 12).view(4, 3)


class Net(LightningModule):
    """Says how it is made; the head is tied to nothing, the body's two layers have one weight."""

    def __init__(self, width=4, act="tanh", optimizer=None):
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self.inputs, self.body = (
            nn.Linear(3, width),
            nn.Sequential(nn.Linear(width, width), nn.Linear(width, width)),
        )
        self.body[1].weight = self.body[0].weight
        self.norm, self.head = nn.BatchNorm1d(width), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.norm(self.body(getattr(torch, self.hparams.act)(self.inputs(x)))))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Silent(Net):
    """Has an argument that it does not save."""

    def __init__(self, width=4, scale=1.0):
        super().__init__(width)
        self.hparams.pop("scale", None)


def clients(count=3):
    return [Samples(i, 8 + 4 * i, count) for i in range(count)]


def fit(tmp_path, module, rounds=2, algorithm=None, cohort=None, **kwargs):
    torch.manual_seed(0)
    federation = Federation(module, algorithm or FedAvg(), LocalTraining(epochs=1), **kwargs)
    save = ModelCheckpoint(tmp_path, save_last=True)
    people = clients()
    trainer(rounds, enable_checkpointing=True, callbacks=[save]).fit(federation, loader(people, cohort))
    return federation, people, str(tmp_path / "last.ckpt")


def same(a, b):
    return torch.equal(a.eval()(X), b.eval()(X))


def test_the_servers_model_and_a_teacher_in_one_line(tmp_path):
    federation, _, path = fit(tmp_path, Net(5, act="sin"))
    loaded = load_client(path)
    assert type(loaded) is Net and loaded.hparams.width == 5 and same(loaded, federation.model)
    teacher = Teacher(path)
    assert torch.equal(teacher(X), federation.model.eval()(X))
    start = Federation(load_client(path))
    assert describe(start.model) == describe(federation.model)


@pytest.mark.parametrize(
    "options", [{"personal_layers": ["body"]}, {"personal_layers": ["batchnorm"]}, {"algorithm": Local()}]
)
def test_every_clients_own_model(tmp_path, options):
    others = [Net(6), Net(3)]
    assign = [1, 0, 2]
    federation, people, path = fit(tmp_path, Net(), other_models=others, client_models=assign, **options)
    models = 0
    for client, model in federation.models(people):
        loaded = load_client(path, client=client.id)
        assert loaded.hparams.width == (6, 4, 3)[client.id] and same(loaded, model)
        assert loaded.body[0].weight is loaded.body[1].weight
        models += 1
    assert models == 3


def test_a_client_that_never_trained_has_the_layers_of_the_start(tmp_path):
    federation, people, path = fit(tmp_path, Net(), rounds=1, cohort=1, personal_layers=["head"])
    for client, model in federation.models(people):
        assert same(load_client(path, client=client.id), model)
    _, _, path = fit(tmp_path / "local", Net(), rounds=1, cohort=1, algorithm=Local())
    trained = torch.load(path, weights_only=True)["federation"]["clients"]
    (missing, *_) = sorted({0, 1, 2} - trained.keys())
    with pytest.raises(
        ValueError, match=f"client={missing} has not trained yet, and Local shares no weights"
    ):
        load_client(path, client=missing)


def test_what_is_not_there_is_refused_in_a_sentence(tmp_path):
    _, _, path = fit(tmp_path, Net(), algorithm=Local())
    with pytest.raises(ValueError, match=r"Local trained no model at the server; name the client"):
        Teacher(path)
    with pytest.raises(ValueError, match=r"client=3: .* is of 3 clients"):
        load_client(path, client=3)
    with pytest.raises(FileNotFoundError, match=r"path='gone.ckpt' does not exist"):
        load_client("gone.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match="is no checkpoint of a federation"):
        load_client(str(tmp_path / "plain.ckpt"))
    (tmp_path / "cut.ckpt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is damaged, or no checkpoint"):
        load_client(str(tmp_path / "cut.ckpt"))


@pytest.mark.parametrize("module", [Silent, lambda: HoldsObject(nn.Tanh())])
def test_a_module_that_does_not_say_how_it_is_made_has_to_be_given(tmp_path, module):
    federation, _, path = fit(tmp_path, module())
    assert describe(federation.model) is None
    with pytest.raises(ValueError, match=r"does not say how its module is made.*module=YourModule"):
        Teacher(path)
    again = load_client(path, module=module())
    assert same(again, federation.model)
    with pytest.raises(ValueError, match=r"does not fit Net: .*size mismatch"):
        load_client(path, module=Net(9))


class HoldsObject(Net):
    def __init__(self, act_module, width=4):
        super().__init__(width)
        self.act_module = act_module


def test_a_class_that_is_not_imported_is_not_imported_for_a_file(tmp_path):
    _, _, path = fit(tmp_path, Net())
    checkpoint = torch.load(path, weights_only=True)
    for wrong in ("antigravity.Net", "torch.nn.Linear", f"{__name__}.gone"):
        checkpoint["federation"]["modules"][0]["class_path"] = wrong
        torch.save(checkpoint, path)
        with pytest.raises(ValueError, match="no LightningModule that is imported here"):
            load_client(path)
    assert "antigravity" not in sys.modules
    del checkpoint["federation"]["modules"]  # as older versions wrote them
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="does not say how"):
        load_client(path)


def test_a_resumed_run_of_another_width_names_layer_shapes_and_client(tmp_path):
    _, _, path = fit(tmp_path, Net(), other_models=[Net(6)])
    for widths, argument in (((5, 6), "model"), ((4, 7), r"other_models\[0\]")):
        federation = Federation(Net(widths[0]), other_models=[Net(widths[1])])
        with pytest.raises(
            ValueError, match=rf"inputs\.weight of {argument} has the shape \(\d, 3\) in .* \(\d, 3\) in"
        ) as e:
            trainer(3).fit(federation, loader(clients()), ckpt_path=path)
        assert "\n" not in str(e.value)


class Late(Net):
    """Makes its layers in setup."""

    def __init__(self, width=4):
        LightningModule.__init__(self)
        self.width = width

    def setup(self, stage):
        self.inputs, self.body = nn.Linear(3, self.width), nn.Identity()
        self.norm, self.head = nn.BatchNorm1d(self.width), nn.Linear(self.width, 2)

    def forward(self, x):
        return self.head(self.norm(self.inputs(x)))


def test_layers_of_setup_out_of_a_checkpoint(tmp_path):
    federation, _, path = fit(tmp_path, Late())
    with pytest.raises(
        ValueError, match=r"does not fit Late: .* If its setup\(\) makes layers, call that first"
    ):
        load_client(path, module=Late())
    with pytest.raises(
        ValueError, match=r"the checkpoint has inputs\.weight of model.* module\.setup\('fit'\)"
    ):
        Federation.load_from_checkpoint(path, model=Late(), strict=False, weights_only=True)
    module = Late()
    module.setup("fit")
    assert same(load_client(path, module=module), federation.model)
    module.setup("fit")
    assert same(
        Federation.load_from_checkpoint(path, model=module, weights_only=True).model, federation.model
    )
    trainer(3).fit(Federation(Late()), loader(clients()), ckpt_path=path)


def test_weights_by_the_modules_own_names(tmp_path):
    federation, _, path = fit(tmp_path, Net())
    state = server_state(torch.load(path, weights_only=True))
    assert state.keys() == federation.model.state_dict().keys()
    plain = {"state_dict": {"model.x": X}}
    assert server_state(plain) is plain["state_dict"]


@pytest.mark.parametrize(
    "read",
    [
        load_client,
        own_models,
        Teacher,
        lambda path: Federation.load_from_checkpoint(path, model=Net(), weights_only=True),
        lambda path: trainer(3).fit(Federation(Net()), loader(clients()), ckpt_path=path),
    ],
    ids=["load_client", "own_models", "Teacher", "load_from_checkpoint", "resume"],
)
def test_a_checkpoint_of_an_older_version_is_refused(read, tmp_path):
    _, _, path = fit(tmp_path, Net())
    checkpoint = torch.load(path, weights_only=True)
    names = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name.replace("model.", "client.", 1): names[name] for name in names}
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="is of an older lkd, which called the server's model `client`") as e:
        read(path)
    assert "\n" not in str(e.value)


OWN = """
import torch
from torch import nn
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Net(LightningModule):
    def __init__(self, width: int = 4, act: nn.Module = nn.Tanh(), lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), act, nn.Linear(width, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Rows(LightningDataModule):
    def train_dataloader(self):
        g = torch.Generator().manual_seed(0)
        return DataLoader(TensorDataset(torch.randn(24, 3, generator=g), torch.arange(24) % 2), batch_size=4)
"""
FIT = """
model:
  class_path: lkd.federated.Federation
  init_args:
    model: {class_path: own_nets.Net, init_args: {width: 6, act: torch.nn.GELU}}
    personal_layers: [net.2]
data:
  class_path: lkd.datamodules.FederatedDataModule
  init_args: {data: own_nets.Rows, partition: lkd.datamodules.federated.partitions.IID, clients: 3}
trainer:
  max_epochs: 1
  accelerator: cpu
  logger: false
  limit_val_batches: 0
  enable_progress_bar: false
  enable_model_summary: false
test_after_fit: false
"""


def run(tmp_path, config, **more):
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(textwrap.dedent(config)), **more}))
    return lightning_cli.run(["fit", "--config", str(file)])


def test_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_nets.py").write_text(OWN)
    first = run(tmp_path, FIT).model
    path = str(next(tmp_path.rglob("last.ckpt")))
    assert isinstance(load_client(path).net[1], nn.GELU) and same(load_client(path), first.model)
    start = {"class_path": "lkd.federated.load_client", "init_args": {"path": path, "client": 1}}
    teacher = {
        "class_path": "lkd.teachers.Teacher",
        "init_args": {"model": {**start, "init_args": {"path": path}}},
    }
    distilled = {
        "class_path": "lkd.callbacks.Distillation",
        "init_args": {"teacher": teacher, "terms": [{"class_path": "lkd.losses.KD"}]},
    }
    config = yaml.safe_load(FIT)
    config["model"]["init_args"] = {"model": start}
    config["trainer"]["default_root_dir"] = str(tmp_path / "second")
    second = run(tmp_path, yaml.safe_dump(config), distillation=distilled)
    wanted = load_client(path, client=1)
    assert describe(second.model.model) == describe(wanted) == describe(first.model)
    (callback,) = [c for c in second.trainer.callbacks if type(c).__name__ == "Distillation"]
    assert torch.equal(callback.teacher(X), first.model.eval()(X))
    again = str(next((tmp_path / "second").rglob("last.ckpt")))
    assert same(load_client(again), second.model.model)
