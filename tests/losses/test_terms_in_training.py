"""Terms that learn something of their own, attached by `Distillation`: trained, saved and resumed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import (
    CRD,
    FGD,
    FSP,
    MGD,
    NST,
    PKD,
    PKT,
    VID,
    CorrelationCongruence,
    Projector,
    QueueCRD,
    ReviewKD,
    SimKD,
)
from lkd.teachers import Teacher

COUNT = 24


class Net(LightningModule):
    """A user's module; its batches may have more than image and label."""

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(2 * width, 3)

    def forward(self, x):
        return self.head(self.pool(self.second(self.first(x))))

    def training_step(self, batch, batch_idx):
        x, y, *_ = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Boxed(Net):
    """Batches as a detector's: a dict with a list of targets."""

    def forward(self, batch):
        return super().forward(batch)

    def training_step(self, batch, batch_idx):
        return self(batch["images"]).square().mean()


def images():
    x = torch.randn(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(COUNT) % 3


def data():
    x, y = images()
    return DataLoader(TensorDataset(x, y, torch.stack([y, torch.arange(COUNT)], 1)), batch_size=8)


def boxed():
    def collate(rows):
        targets = [{"boxes": torch.tensor([[0.0, 0.0, 1.0 + int(y), 5.0]])} for _, y in rows]
        return {"images": torch.stack([x for x, _ in rows]), "targets": targets}

    return DataLoader(TensorDataset(*images()), batch_size=8, collate_fn=collate)


def seeded(make, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


STAGES = {"student_layer": ["first", "second"], "teacher_layer": ["first", "second"]}
LAST = {"student_layer": "second", "teacher_layer": "second"}
EMBEDDING = {"student_layer": "pool", "teacher_layer": "pool"}
DEEP = {"student_layer": ["first", "second", "pool"], "teacher_layer": ["first", "second", "pool"]}
LEARNING = {
    "fsp": lambda: FSP(**STAGES),
    "vid": lambda: VID(**STAGES),
    "crd": lambda: CRD(COUNT, negatives=6, dim=8, weight=0.1, **EMBEDDING),
    "queue_crd": lambda: QueueCRD(queue=20, dim=8, weight=0.1, **EMBEDDING),
    "review": lambda: ReviewKD(**DEEP),
    "simkd": lambda: SimKD(**LAST),
    "mgd": lambda: MGD(weight=1e-2, **STAGES),
    "mgd_channels": lambda: MGD(ratio=0.2, masked="channels", weight=1e-2, **STAGES),
    "pkd": lambda: PKD(**STAGES),
    "fgd": lambda: FGD(strides=[1, 2], lambda_=1.0, weight=1e-2, **STAGES),
}


def callback(name):
    keys = {"crd": 2, "fgd": "targets"}
    return Distillation(
        Teacher(seeded(lambda: Net(width=6), 1)), [LEARNING[name]()], label_key=keys.get(name, 1)
    )


def fit(name, folder, epochs, ckpt=None, distillation=None):
    boxes = name == "fgd"
    student = seeded(Boxed if boxes else Net, 0)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs,
        callbacks=[distillation or callback(name)],
        default_root_dir=folder,
    )
    trainer.fit(student, boxed() if boxes else data(), ckpt_path=ckpt)
    return student, trainer.checkpoint_callback.best_model_path


@pytest.mark.parametrize("name", LEARNING)
def test_all_of_an_adapter_trains_and_a_resumed_run_is_the_same_bit_for_bit(name, tmp_path):
    seen = {}

    class Look(Distillation):
        def on_train_start(self, trainer, pl_module):
            seen["before"] = copy.deepcopy(getattr(pl_module, ADAPTERS))

        def on_train_end(self, trainer, pl_module):
            seen["after"] = copy.deepcopy(getattr(pl_module, ADAPTERS))

    plain = callback(name)
    look = Look(plain.teacher, list(plain.distiller.terms.values()), label_key=plain.distiller.label_key)
    whole, _ = fit(name, tmp_path / "whole", 2, distillation=look)
    for (key, before), after in zip(
        seen["before"].named_parameters(), seen["after"].parameters(), strict=True
    ):
        if not key.endswith("weigh.bias"):  # before a softmax it changes nothing
            assert not torch.equal(before, after), key
    _, half = fit(name, tmp_path / "half", 1)
    resumed, path = fit(name, tmp_path / "resumed", 2, half)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    kept = torch.load(path, weights_only=True)[ADAPTERS]
    assert kept.keys() == seen["after"].state_dict().keys()
    for key, value in seen["after"].state_dict().items():
        assert torch.equal(kept[key], value), key


@pytest.mark.parametrize("name", LEARNING)
def test_half_precision_features_in_and_outside_autocast(name):
    def stages(width, seed):
        generator = torch.Generator().manual_seed(seed)
        maps = [
            torch.randn(8, width, 8, 8, generator=generator),
            torch.randn(8, 2 * width, 4, 4, generator=generator),
        ]
        return {"first": maps[0], "second": maps[1], "pool": maps[1].mean((2, 3))}

    labels = {
        "crd": torch.stack([torch.arange(8) % 3, torch.arange(8)], 1),
        "fgd": [{"boxes": torch.tensor([[0.0, 0.0, 2.0, 5.0]])}] * 8,
    }.get(name, torch.arange(8) % 3)
    term = LEARNING[name]()
    student, teacher = (
        [features[layer].bfloat16() for layer in ([layers] if isinstance(layers, str) else layers)]
        for features, layers in ((stages(4, 0), term.student_layer), (stages(6, 1), term.teacher_layer))
    )
    if isinstance(term.student_layer, str):
        student, teacher = student[0], teacher[0]
    adapter = term.adapter(student, teacher)
    assert all(p.dtype == torch.float32 for p in adapter.parameters())
    outside = term(student, teacher, labels, copy.deepcopy(adapter))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = term(student, teacher, labels, copy.deepcopy(adapter))
    assert inside.dtype == outside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=3e-2, atol=1e-3)


def test_simkds_projector_comes_out_of_the_checkpoint(tmp_path):
    student, path = fit("simkd", tmp_path, 1)
    projector = Projector.from_state(torch.load(path, weights_only=True)[ADAPTERS], "simkd.")
    maps = student.eval().second(student.first(images()[0]))
    assert projector(maps).shape == (COUNT, 12, 4, 4)


@pytest.mark.parametrize(
    "term",
    [PKT(**EMBEDDING), CorrelationCongruence(**EMBEDDING), NST(**STAGES)],
    ids=lambda t: type(t).__name__,
)
def test_terms_without_adapters_change_what_is_learned(term, tmp_path):
    def weights(weight):
        term.weight = weight
        distillation = Distillation(Teacher(seeded(lambda: Net(width=6), 1)), [term])
        return fit("plain", tmp_path, 1, distillation=distillation)[0].first[0].weight.detach()

    assert (weights(0.0) - weights(10.0)).abs().max() > 1e-5
