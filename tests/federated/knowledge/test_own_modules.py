"""Knowledge algorithms with modules and data of users: other precisions, entries of outputs, bad public data."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.checkpoints import load_client
from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import FD, FedAvg, FedCache, FedDF, Federation, FedET, FedGen, FedGKT, FedKD, FedMD
from lkd.federated.knowledge.common.client_ensemble import ClientEnsemble
from lkd.models import FeatureGenerator


def rows(count=48, seed=0):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x[:, :3].argmax(1))


class Rows(LightningDataModule):
    def __init__(self, data=None):
        super().__init__()
        self.data = data or rows()

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(rows(seed=3), batch_size=48)


class Own(LightningModule):
    """A user's module, whose forward gives (logits, features) if it is told to."""

    def __init__(self, classes=3, width=5, pair=False):
        super().__init__()
        torch.manual_seed(width)
        self.save_hyperparameters()
        self.body, self.head, self.pair = nn.Linear(6, width), nn.Linear(width, classes), pair

    def forward(self, x):
        features = self.body(x).relu()
        return (self.head(features), features) if self.pair else self.head(features)

    def training_step(self, batch, batch_idx):
        said = self(batch[0])
        return nn.functional.cross_entropy(said[0] if self.pair else said, batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Large(Own):
    """A server's model, from features of five numbers."""

    def __init__(self, classes=3, takes=5, pair=False):
        super().__init__(classes, pair=pair)
        self.head = nn.Linear(takes, classes)

    def forward(self, x):
        return (self.head(x), x) if self.pair else self.head(x)


def fit(algorithm, module=None, public=0, rounds=2, trainer=None, **kwargs):
    public = Rows(public) if isinstance(public, TensorDataset) else public
    federation = Federation(module or Own(), algorithm, **kwargs)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(
        max_epochs=rounds, accelerator="cpu", **{"enable_checkpointing": False, **quiet, **(trainer or {})}
    )
    run.fit(federation, FederatedDataModule(Rows(), IID(), clients=3, public=public))
    return federation


def spoiled(which):
    x, y = rows(12, seed=1).tensors
    return TensorDataset(x.index_fill(0, torch.tensor(which), torch.nan), y)


@pytest.mark.parametrize(
    "algorithm",
    [FedMD(), FedDF(steps=2), FD(), FedGKT(Large(), "body")],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_an_output_with_several_entries_is_named_with_how_to_take_one(algorithm):
    with pytest.raises(Exception, match=r"a tuple of a tensor .* name the entry, as in ':0'"):
        fit(algorithm, Own(pair=True), public=0.2 if algorithm.needs_public_data else 0)


def test_a_loss_of_two_models_names_the_tuple():
    class Pair(Own):
        def __init__(self):
            super().__init__()
            self.network = nn.ModuleDict(
                {"private": Own(pair=True), "shared": Own(), "adapter": nn.Identity()}
            )

        def forward(self, x):
            self.network["shared"](x)
            return self.network["private"](x)[0]

    with pytest.raises(RuntimeError, match="was given a tuple: name the entry"):
        fit(FedKD(rounds=2), Pair(), personal_layers=["network.private", "body", "head"])


@pytest.mark.parametrize(
    ("server", "other", "message"),
    [
        (Large(classes=4), None, r"gives a tensor \(1, 4\).* are of \(3,\) classes"),
        (Large(takes=8), None, r"server=Large fails on features='body' \(1, 5\)"),
        (Large(pair=True), None, "gives a tuple of .* must return logits"),
        (Large(), Own(classes=4), r"layer='' gives \(3,\) and \(4,\) at different clients"),
        (Large(), Own(width=7), r"features='body' gives \(5,\) and \(7,\) at different clients"),
    ],
)
def test_what_does_not_fit_the_large_model_is_named(server, other, message):
    with pytest.raises(ValueError, match=message):
        fit(FedGKT(server, "body"), other_models=[other] if other else None)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", [FedCache, FedGen])
def test_networks_of_an_algorithm_follow_the_precision_of_the_run(kind, precision):
    made = FedCache(nn.Linear(6, 2)) if kind is FedCache else FedGen(FeatureGenerator(3, 5), "head")
    federation = fit(made, rounds=3, trainer={"precision": precision})
    assert all(not record.error for record in federation.records)
    assert all(tensor.isfinite().all() for tensor in federation.model.parameters())


def small(**kwargs):
    return {"other_models": [Own(width=4)], "client_models": [1, 1, 1], **kwargs}


@pytest.mark.parametrize(("algorithm", "more"), [(FedDF(steps=20), {}), (FedET(steps=4), small())])
def test_public_data_that_are_not_finite_end_the_run(algorithm, more):
    with pytest.raises(FloatingPointError, match=r"clients 0, 1, 2 say of the public data .* bad values"):
        fit(algorithm, public=spoiled([3]), **more)


def test_a_client_whose_model_says_infinity_is_left_out_of_the_ensemble():
    server = SimpleNamespace(models=[], index=2, gather_objects=lambda said: [said])
    ensemble = ClientEnsemble(server, "", 8, "logits", 1.0)
    ensemble._said = [(2, torch.ones(4, 3)), (0, torch.full((4, 3), torch.inf)), (1, torch.zeros(4, 3))]
    with pytest.warns(
        UserWarning, match="round 2: what the models of clients 0 say .* left out of the ensemble"
    ):
        kept = ensemble.logits()
    assert torch.equal(kept, torch.stack([torch.zeros(4, 3), torch.ones(4, 3)]).double())


def test_public_data_that_nobody_uses_are_said():
    with pytest.warns(UserWarning, match="FedAvg uses no public data, so the 10 public samples lie idle"):
        fit(FedAvg(), public=0.2, rounds=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(FedAvg(), rounds=1)
        fit(FedDF(steps=2), public=0.2, rounds=1)
    assert not [w for w in said if "lie idle" in str(w.message)]


@pytest.mark.parametrize(
    "algorithm", [FedET(steps=4), FedDF(steps=20)], ids=lambda algorithm: type(algorithm).__name__
)
def test_a_server_model_that_only_the_server_trains_counts_as_trained(algorithm, tmp_path):
    before = Own().head.weight.clone()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        federation = fit(
            algorithm,
            public=0.2,
            trainer={"enable_checkpointing": True, "default_root_dir": str(tmp_path)},
            **small(),
        )
    assert federation.trains_server_model and not [w for w in said if "start from" in str(w.message)]
    path = federation.trainer.checkpoint_callback.best_model_path
    assert not torch.equal(load_client(path).head.weight, before)


def test_without_its_steps_the_server_trains_nothing():
    with pytest.warns(UserWarning, match="weights that clients start from"):
        fit(FedET(steps=0), public=0.2, **small())


class Scaling(Own):
    """Scales its inputs in its steps, and not in its forward."""

    def training_step(self, batch, batch_idx):
        return super().training_step([batch[0] / 2, batch[1]], batch_idx)


class Augmenting(Own):
    def training_step(self, batch, batch_idx):
        x = batch[0] + 0.1 if self.training else batch[0]
        return super().training_step([x, batch[1]], batch_idx)


class Past(Own):
    """Goes past its forward."""

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1]))


@pytest.mark.parametrize(
    "algorithm",
    [FedMD(), FedDF(steps=2), FedCache(nn.Linear(6, 2))],
    ids=lambda algorithm: type(algorithm).__name__,
)
@pytest.mark.parametrize(
    ("module", "told"), [(Scaling, True), (Own, False), (Augmenting, False), (Past, False)]
)
def test_a_module_that_changes_its_inputs_in_its_steps_is_warned_of(algorithm, module, told):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(algorithm, module(), public=0.2 if algorithm.needs_public_data else 0, rounds=1)
    assert sum("validation_step changes its inputs" in str(w.message) for w in said) == told


def test_an_algorithm_that_leaves_the_forward_alone_says_nothing_of_it():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(FedAvg(), Scaling(), rounds=1)
    assert not [w for w in said if "changes its inputs" in str(w.message)]
