"""What of a batch is the input and what the labels, in any form that users' batches have."""

from collections import namedtuple

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import Dataset

from lkd.batches import call_of
from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import (
    DSFL,
    FCCL,
    FD,
    MHD,
    FedCache,
    FedDF,
    Federation,
    FedET,
    FedGKT,
    FedMD,
    FedProto,
    LocalTraining,
    Ring,
    ServerTeacher,
    TwoHeads,
)
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.modules import Classifier
from lkd.teachers import Teacher

from ..test_rounds import trainer


class Takes(nn.Module):
    """A module with any forward."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


Batch = namedtuple("Batch", ["ids", "mask", "labels"])


@pytest.mark.parametrize(
    ("forward", "batch", "keys", "args", "kwargs"),
    [
        (lambda x: x, "whole", {}, ("whole",), {}),
        (lambda x: x, (1, 2), {}, (1,), {}),
        (lambda x: x, (1, 2), {"label_key": 0}, (2,), {}),
        (lambda x, option=False: x, (1, 2, 3), {}, (1,), {}),
        (lambda x: x, {"a": 1, "b": 2}, {}, ({"a": 1, "b": 2},), {}),
        (lambda a, b: a, {"a": 1, "b": 2, "labels": 3}, {}, (), {"a": 1, "b": 2}),
        (lambda a, b=None: a, {"a": 1, "labels": 3}, {}, (), {"a": 1}),
        (lambda ids=None, mask=None: ids, {"ids": 1, "mask": 2, "labels": 3}, {}, (), {"ids": 1, "mask": 2}),
        (lambda **batch: batch, {"a": 1, "b": 2, "labels": 3}, {}, (), {"a": 1, "b": 2}),
        (lambda a, b: a, ((1, 2), 3), {}, (1, 2), {}),
        (lambda a, b: a, ({"a": 1, "b": 2}, 3), {}, (), {"a": 1, "b": 2}),
        (lambda a, b: a, (1, 2, 3), {"input_key": [0, 1]}, (1, 2), {}),
        (lambda a, b: a, (1, 2, 3), {"input_key": [2, 0]}, (3, 1), {}),
        (lambda mask, ids: ids, Batch(1, 2, 3), {"input_key": ["ids", "mask"]}, (), {"ids": 1, "mask": 2}),
        (lambda a, b: a, {"x1": 1, "x2": 2}, {"input_key": ["x1", "x2"]}, (1, 2), {}),
        (lambda x: x, {"a": 1, "b": 2}, {"input_key": "b"}, (2,), {}),
        (lambda *x: x, (1, 2), {}, (1,), {}),
    ],
)
def test_what_a_forward_is_called_with(forward, batch, keys, args, kwargs):
    assert call_of(Takes(forward), batch, **keys) == (args, kwargs)


class Stepless(LightningModule):
    """Has no forward."""


@pytest.mark.parametrize(
    ("module", "batch", "keys", "message"),
    [
        (Takes(lambda ids, mask=None: ids), (1, 2, 3), {}, r"forward takes ids, mask, .* input_key=\[0, 1\]"),
        (Takes(lambda ids, mask: ids), (1, 2), {}, r"takes ids, mask, and a int .* input_key=\[0, 1\]"),
        (
            Takes(lambda a, b: a),
            {"x": 1, "z": 2},
            {},
            r"a dict of x, z does not say .* input_key=\['x', 'z'\]",
        ),
        (
            Takes(lambda x: x),
            (1, 2),
            {"input_key": 2},
            "input_key=2: the batch has no such entry, it is tuple of 2",
        ),
        (Takes(lambda x: x), {"a": 1}, {"input_key": "x"}, "input_key='x': .* it is a dict of 'a'"),
        (Takes(lambda x: x), torch.zeros(4), {"input_key": 0}, "input_key=0: .* it is Tensor"),
        (Stepless(), (1, 2), {}, "Stepless has no forward, which this algorithm calls"),
    ],
)
def test_what_is_not_clear_is_refused_in_a_sentence(module, batch, keys, message):
    with pytest.raises(ValueError, match=message) as found:
        call_of(module, batch, **keys)
    assert "\n" not in str(found.value)


Y = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("batch", "key"),
    [
        ((1, Y), 1),
        ((Y, 1), 0),
        ({"x": 1, "labels": Y}, 1),
        ({"x": 1, "target": Y}, 1),
        ({"x": 1, "kind": Y}, "kind"),
        (Batch(1, 2, Y), "labels"),
        ((1, Y[:, None]), 1),
    ],
)
def test_labels(batch, key):
    assert torch.equal(labels_of(batch, key), Y)


@pytest.mark.parametrize(
    ("batch", "key", "message"),
    [
        ({"x": 1, "kind": Y}, 1, r"label_key=1: .* it is a dict of 'x', 'kind', and this algorithm needs"),
        ((1,), 1, "label_key=1: the batch has no such entry, it is tuple of 1"),
        ((1, torch.zeros(2, 3)), 1, r"label_key=1 of the batch is a torch.float32 \(2, 3\)"),
        ((1, torch.zeros(2)), 1, "needs class numbers"),
        ((1, ["cat", "dog"]), 1, "label_key=1 of the batch is a list"),
    ],
)
def test_no_labels(batch, key, message):
    with pytest.raises(ValueError, match=message):
        labels_of(batch, key)


class Net(nn.Module):
    """Sums what its mask lets through, so that a forgotten mask is another number."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.second = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x, mask):
        embedding = self.body(x * mask).relu()
        return self.head(embedding) + 0 * self.second(embedding)


class Masked(LightningModule):
    """A module of two inputs, by its own `read` of a batch."""

    def __init__(self, form):
        super().__init__()
        self.net, self.form = Net(), form

    def forward(self, x, mask):
        return self.net(x, mask)

    def training_step(self, batch, batch_idx):
        x, mask, y = self.form(batch)
        return nn.functional.cross_entropy(self(x, mask), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Joined(LightningModule):
    """The same network, for batches (x, y) whose x is masked already."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        return self.net(x, torch.ones_like(x))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Rows(Dataset):
    def __init__(self, form):
        self.form = form
        g = torch.Generator().manual_seed(3)
        self.x, self.mask = torch.randn(24, 3, generator=g), (torch.rand(24, 3, generator=g) > 0.5).float()
        self.y = (self.x.sum(1) > 0).long()
        self.targets = self.y

    def __len__(self):
        return 24

    def __getitem__(self, k):
        return self.form(self.x[k], self.mask[k], int(self.y[k]))


FORMS = {
    "dict": (
        lambda x, mask, y: {"mask": mask, "x": x, "labels": y},
        lambda b: (b["x"], b["mask"], b["labels"]),
        {},
        {"label_key": "labels"},
    ),
    "several": (
        lambda x, mask, y: (x, mask, y),
        lambda b: b,
        {"input_key": [0, 1]},
        {"label_key": 2},
    ),
    "labels first": (
        lambda x, mask, y: (y, {"x": x, "mask": mask}),
        lambda b: (b[1]["x"], b[1]["mask"], b[0]),
        {"input_key": 1},
        {"label_key": 0},
    ),
    "other names": (
        lambda x, mask, y: {"one": x, "two": mask, "kind": y},
        lambda b: (b["one"], b["two"], b["kind"]),
        {"input_key": ["one", "two"]},
        {"label_key": "kind"},
    ),
}


class Encoder(nn.Module):
    """Sees what the network sees."""

    def forward(self, x, mask=None):
        return x if mask is None else x * mask


def server():
    torch.manual_seed(1)
    return Classifier(nn.Linear(4, 2), num_classes=2)


PUBLIC = {
    "fedmd": lambda keys: FedMD(batch_size=4, warmup=0, **keys),
    "dsfl": lambda keys: DSFL(batch_size=4, **keys),
    "feddf": lambda keys: FedDF(steps=3, batch_size=4, **keys),
    "fedet": lambda keys: FedET(steps=3, batch_size=4, layer="net", **keys),
    "mhd": lambda keys: MHD(Ring(), heads=["net", "net.head"], embedding="net.body", batch_size=4, **keys),
    "fccl": lambda keys: FCCL(batch_size=4, warmup=0, layer="net", **keys),
}
OWN = {
    "fedproto": lambda keys: FedProto("net.body", 2, **keys),
    "fd": lambda keys: FD(layer="net", **keys),
    "fedgkt": lambda keys: FedGKT(server(), "net.body", layer="net", **keys),
    "fedcache": lambda keys: FedCache(Encoder(), related=2, layer="net", **keys),
    "two_heads": lambda keys: TwoHeads(Ring(), warmup=1, first="net.head", second="net.second", **keys),
}


def weights(make, form, keys):
    public = 0.25
    form_of, read, inputs, labels = form
    module = Joined() if read is None else Masked(read)
    keys = {**(inputs if keys != "labels" else {}), **(labels if keys != "inputs" else {})}
    data = FederatedDataModule(Rows(form_of), IID(), clients=2, batch_size=4, public=public)
    algorithm = make(keys)
    if isinstance(algorithm, FedET):
        others = {
            "other_models": [type(module)(*([read] if read else []))],
            "client_models": [1, 1],
            "shared_layers": ["net.body"],
        }
    else:
        others = {}
    federation = Federation(module, algorithm, LocalTraining(epochs=1), seed=1, **others)
    trainer(2).fit(federation, datamodule=data)
    assert not [r.error for r in federation.records if r.error]
    kept = {
        f"{c}/{n}": t
        for c, s in federation.engine.host.store.state_dict().items()
        for n, t in s.get("personal", {}).items()
    }
    return {
        **federation.state_dict(),
        **kept,
        **{f"s/{g}/{n}": t for g, v in federation.algorithm.state.items() for n, t in v.items()},
    }


PLAIN = (lambda x, mask, y: (x * mask, y), None, {}, {})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("algorithm", [*PUBLIC, *OWN])
def test_every_form_gives_the_same_numbers(algorithm, form):
    """Those of a pair (x, y) whose x is masked before."""
    make = PUBLIC.get(algorithm) or OWN[algorithm]
    keys = "both" if algorithm in OWN else "inputs"
    found, expected = weights(make, FORMS[form], keys), weights(make, PLAIN, keys)
    assert found.keys() == expected.keys() and len(found) >= 4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


class Whole(nn.Module):
    """A teacher that sees a dict."""

    def forward(self, batch):
        return (batch["x"] * batch["mask"])[:, :2]


class Joint(nn.Module):
    def forward(self, x):
        return x[:, :2]


def test_a_teacher_at_the_server_sees_what_its_forward_takes():
    def taught(teacher, form, keys):
        def make(_):
            return ServerTeacher(Teacher(teacher), batch_size=4, **keys)

        return weights(make, form, "inputs")

    found, expected = taught(Whole(), FORMS["dict"], {}), taught(Joint(), PLAIN, {})
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    net = Net()  # takes several inputs, by name or one after the other
    several, named = taught(net, FORMS["several"], {"input_key": [0, 1]}), taught(net, FORMS["dict"], {})
    for name, value in named.items():
        torch.testing.assert_close(several[name], value, msg=name)


class Image(LightningModule):
    """Takes a tensor, of batches that call it by another name."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.second = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)
        self.net = Net()

    def forward(self, pixels):
        return self.head(self.body(pixels))

    def training_step(self, batch, batch_idx):
        raise AssertionError("training has begun")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "algorithm",
    [
        FedMD(batch_size=4),
        DSFL(batch_size=4),
        FedDF(steps=3, batch_size=4),
        MHD(Ring(), heads=["head"], embedding="body", batch_size=4),
        FD(),
        FedProto("body", 2),
        TwoHeads(Ring(), first="head", second="second"),
    ],
    ids=lambda a: type(a).__name__,
)
def test_a_dict_whose_keys_are_not_the_arguments_of_forward(algorithm):
    data = FederatedDataModule(Rows(FORMS["dict"][0]), IID(), clients=2, batch_size=4, public=0.25)
    with pytest.raises(
        ValueError,
        match=r"Image\.forward\(pixels\) was given the whole batch, a dict of .* input_key='\w+'\.",
    ) as error:
        trainer(1).fit(Federation(Image(), algorithm), datamodule=data)
    assert "\n" not in str(error.value)
