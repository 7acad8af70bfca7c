"""A training looks at its first batch at once, and at the others when steps have come together: later, but always."""

import copy

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader

from lkd.callbacks import LogitDistillation
from lkd.federated import FedAvg
from lkd.finite import require_finite_weights
from lkd.looks import EVERY, later, look_back, looking, looks, unseen
from lkd.losses.scores import split_ignored
from lkd.models import CIFARResNet, MultiExit, TorchvisionDetector
from lkd.modules import (
    Classifier,
    Detector,
    MultiExitClassifier,
    MultiHeadClassifier,
    MultimodalClient,
    MutualLearning,
    PrivateSharedClassifier,
    SplitClassifier,
)
from lkd.teachers import Teacher

from .callbacks.plain import Plain, quick_trainer
from .federated.quadratic import Point, run


def positive(values):
    if values[0] <= 0:
        raise ValueError(f"{values[0]:g} is not positive.")


def test_values_are_looked_at_in_the_first_step_and_then_every_so_often():
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="-1 is not"), looking(module, first=True):
        assert looks()
        later([torch.tensor(-1)], positive)
    for number in range(1, EVERY):
        with looking(module, first=False):
            assert not looks()
            later([torch.tensor(7 - number)], positive)
    with pytest.raises(ValueError, match="0 is not"), looking(module, first=False):
        later([torch.tensor(1)], positive)
    assert looks()
    look_back(module)  # nothing is left
    with looking(module, first=False):
        later([torch.tensor(-2)], positive)
    copy.deepcopy(module)
    with pytest.raises(ValueError, match="-2 is not"):
        look_back(module)


def test_a_part_of_a_step_counts_with_it():
    module = nn.Linear(1, 1)
    for _ in range(EVERY - 1):
        with looking(module, first=False), looking(module, first=False):
            later([torch.tensor(-1)], positive)
    with pytest.raises(ValueError, match="-1 is not"), looking(module, first=False):
        pass


def test_a_new_training_forgets_the_one_before():
    module = nn.Linear(1, 1)
    with looking(module, first=False):
        later([torch.tensor(-1)], positive)
    with looking(module, first=True):
        later([torch.tensor(1)], positive)
    look_back(module)


def test_a_step_that_fails_is_explained():
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="-1 is not"), looking(module, first=False):
        later([torch.tensor(-1)], positive)
        raise IndexError("index out of range")
    with pytest.raises(IndexError, match="out of range"), looking(module, first=False):
        later([torch.tensor(1)], positive)
        raise IndexError("index out of range")


def test_where_nobody_looks():
    module = nn.Linear(1, 1)
    with unseen(), looking(module, first=True):
        assert not looks()
        later([torch.tensor(-1)], positive)
    look_back(module)


def test_inside_of_transformations_of_the_step_itself():
    """Their tensors are none any more when a training looks back."""
    module, labels = nn.Linear(1, 1), torch.tensor([[0, 1], [2, 7]])

    def smallest(rows):
        later([rows.amin() - 1], positive)
        return rows.float().sum()

    with looking(module, first=False):
        with pytest.raises(ValueError, match="-1 is not"):
            torch.func.grad(lambda x: smallest(x))(labels[0].float())
        with pytest.raises(RuntimeError, match="vmap"):
            torch.func.vmap(smallest)(labels)
        counted = torch.func.vmap(lambda rows: split_ignored(rows, 2, 3)[1])(labels)
    assert counted.all()
    look_back(module)


def linear(width=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 3))


def split_classifier():
    return SplitClassifier(CIFARResNet(8, classes=3), "layer2", num_classes=3, image_size=32, channels=2)


MODULES = {
    "classifier": (lambda: Classifier(linear(), 3), (1, 4, 4)),
    "heads": (lambda: MultiHeadClassifier(nn.Flatten(), 3, heads=1, example=[1, 4, 4]), (1, 4, 4)),
    "exits": (
        lambda: MultiExitClassifier(MultiExit(CIFARResNet(8, classes=3), ["layer1", "layer2"]), 3),
        (3, 8, 8),
    ),
    "mutual": (lambda: MutualLearning([linear(), linear()], 3), (1, 4, 4)),
    "private": (lambda: PrivateSharedClassifier(linear(), linear(), 3), (1, 4, 4)),
    "split": (split_classifier, (3, 32, 32)),
    "modalities": (
        lambda: MultimodalClient(
            {"acc": nn.Flatten(), "gyro": nn.Flatten()},
            3,
            {"acc": [1, 4], "gyro": [1, 4]},
            completion="prototype",
        ),
        (1, 4),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_step_does_not_read_a_value(name):
    """Of tensors without values it would be an error, so a device would not be waited for, either."""
    make, shape = MODULES[name]
    module, log = make(), {}
    x = torch.rand(4, *shape)
    batch = ({"acc": x, "gyro": -x} if name == "modalities" else x, torch.tensor([0, 1, 2, 1]))
    nothing = tree_map(lambda tensor: tensor.to("meta"), batch)
    module.log = lambda name, value, **_: log.update({name: value})
    module.training_step(batch, 0)
    module.to("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):  # so the test can fail
        module.training_step(nothing, 0)
    loss = module.training_step(nothing, 1)
    assert loss.is_meta and log["train/loss"].is_meta


class Digits(torch.utils.data.Dataset):
    """Batches of four 4x4 pictures, of which some are spoilt."""

    def __init__(self, count, nan=(), labels=None):
        self.count, self.nan, self.labels = count, nan, labels or {}

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(k))
        return x * torch.nan if k in self.nan else x, self.labels.get(k, torch.tensor([0, 1, 2, 1]))


def data(*args, **kwargs):
    return DataLoader(Digits(*args, **kwargs), batch_size=None)


def sgd(params, lr=0.1):
    return torch.optim.SGD(params, lr=lr)


def classifier():
    return Classifier(linear(), 3, optimizer=sgd)


WORDS = r"the loss is not finite \(CrossEntropyLoss=nan\): lower the learning rate"


@pytest.mark.parametrize(
    ("batches", "bad", "steps"), [(4, 0, 0), (4, 2, 4), (3 * EVERY, EVERY + 5, 2 * EVERY)]
)
def test_a_loss_that_is_not_finite_ends_a_fit(batches, bad, steps):
    trainer = quick_trainer()
    with pytest.raises(FloatingPointError, match=WORDS):
        trainer.fit(classifier(), data(batches, nan=[bad]))
    assert trainer.global_step == steps


def test_spoilt_weights_are_not_saved(tmp_path):
    keep = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    trainer = quick_trainer(callbacks=[keep], enable_checkpointing=True)
    with pytest.raises(FloatingPointError, match=WORDS):
        trainer.fit(classifier(), data(20, nan=[4]))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0-step=3.ckpt"]
    module, trainer = classifier(), quick_trainer()
    trainer.fit(module, data(1))
    with torch.no_grad():  # as a last step may do though all losses were finite
        module.network[1].weight[0, 0] = torch.inf
    for save in (
        lambda: trainer.save_checkpoint(tmp_path / "x.ckpt"),
        lambda: require_finite_weights(module),
    ):
        with pytest.raises(
            FloatingPointError, match=r"the weights are not finite \(network.1.weight holds NaN"
        ):
            save()
    assert not (tmp_path / "x.ckpt").exists()


def test_a_fit_that_broke_off_leaves_nothing_to_the_next():
    module, trainer = classifier(), quick_trainer()

    class Ends(Digits):
        def __getitem__(self, k):
            if k == 3:
                raise OSError("the disk is gone")
            return super().__getitem__(k)

    with pytest.raises(OSError, match="disk"):
        trainer.fit(module, DataLoader(Ends(4, nan=[2]), batch_size=None))
    fresh = classifier()
    module.load_state_dict(fresh.state_dict())
    quick_trainer().fit(module, data(4))


@pytest.mark.parametrize("labels", [[0, 1, 3, 1], [0, -1, 2, 1], [0, -100, 2, 1]])
def test_labels_of_a_later_batch(labels):
    """What the loss refuses is explained at once, what it lets pass (-100) is told where the epoch ends."""
    trainer = quick_trainer()
    with pytest.raises(
        ValueError, match=r"labels from -?\d+ to \d: num_classes is 3, so they must be from 0 to 2"
    ):
        trainer.fit(classifier(), data(5, labels={2: torch.tensor(labels)}))
    assert trainer.global_step == (5 if -100 in labels else 2)


def test_targets_of_a_later_batch():
    good = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    network = TorchvisionDetector("ssdlite", "test_resnet", num_classes=2, channels=16)
    detector, images = Detector(network), torch.rand(2, 3, 64, 64)
    detector.log = lambda *args, **kwargs: None
    detector.training_step({"images": images, "targets": [good, good]}, 0)
    for wrong, message in (
        ({"labels": torch.tensor([2])}, r"labels \[2\] are outside the classes 0..1"),
        ({"labels": torch.tensor([-1])}, r"labels \[-1\] are outside the classes 0..1"),
        ({"boxes": good["boxes"] * torch.nan}, "a box is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.training_step({"images": images, "targets": [good, {**good, **wrong}]}, 1)
            look_back(detector)


class Small(Plain):
    """A user's module, which looks at nothing by itself, and whose step takes no number of the batch."""

    def __init__(self):
        super().__init__()
        self.net = linear()

    def training_step(self, batch):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


@pytest.mark.parametrize(("bad", "steps"), [(0, 0), (2, 4)])
def test_a_distilled_loss_of_a_users_module(bad, steps):
    trainer = quick_trainer(callbacks=[LogitDistillation(Teacher(linear()))])
    with pytest.raises(FloatingPointError, match=r"the loss is not finite \(kd=nan\)"):
        trainer.fit(Small(), data(4, nan=[bad]))
    assert trainer.global_step == steps


class Pictures(Point):
    """A client with four batches of pictures, one of which may be spoilt."""

    def __init__(self, id, nan=(), population=3):
        super().__init__(id, [(1, 0.0)] * 4, population, batch=1)
        self.digits = Digits(4, nan)

    def train_batches(self, seed):
        yield from (self.digits[k] for k in range(4))


def test_a_client_is_told_of_its_loss_and_the_next_is_not():
    clients = [Pictures(0), Pictures(1, nan=[2]), Pictures(2)]
    with pytest.warns(UserWarning, match=rf"round 0: client client1 failed .*{WORDS}"):
        federation = run(FedAvg(), 1, clients, module=classifier())
    errors = {record.name: record.error for record in federation.records}
    assert errors["client1"].startswith("FloatingPointError: the loss is not finite (CrossEntropyLoss=nan)")
    assert not errors["client0"] and not errors["client2"]
