"""Weights of all kinds: complex, tied, parametrized, sparse gradients, other types, in lists; against a mean by hand."""

import copy
import warnings

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn.utils import parametrizations

from lkd.federated import (
    SCAFFOLD,
    Attack,
    CoordinateMedian,
    FedAdam,
    Federation,
    FedLin,
    FedNova,
    FedProx,
    FedShuffleMVR,
    FedYogi,
    GeometricMedian,
    LocalTraining,
    Mime,
)
from lkd.federated.knowledge.common.low_rank import compress, restore
from lkd.federated.peers.peer_weights import combine
from lkd.federated.protocol.tensors import all_finite
from lkd.federated.server.attack import _norm
from lkd.federated.server.spectral_norms import settle
from lkd.federated.server.tensor_memory import check_memory
from lkd.federated.server.weighted_sum import RunningSum

from .quadratic import loader, trainer
from .test_rounds import Samples


class Net(LightningModule):
    def __init__(self, *layers, optimizer=torch.optim.SGD):
        super().__init__()
        self.net, self.make = nn.Sequential(*layers), optimizer

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.make(self.parameters(), lr=0.1)


class Complex(nn.Module):
    """A complex layer and a complex statistic."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))
        self.register_buffer("m", torch.zeros(4, dtype=torch.complex64))

    def forward(self, x):
        z = x.to(torch.complex64) @ self.w
        if self.training:
            self.m.copy_(0.9 * self.m + 0.1 * z.detach().mean(0))
        return z.abs()


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.layer, self.dtype = nn.Linear(3, 2).to(dtype), dtype

    def forward(self, x):
        return self.layer(x.to(self.dtype)).float()


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 2, sparse=True)

    def forward(self, x):
        return self.table(x.sum(1).abs().long() % 10)


class Lists(nn.Module):
    """Parameters in a list and a dict, views of one tensor that do not overlap, a buffer that is a parameter, an integer one."""

    def __init__(self):
        super().__init__()
        both = torch.randn(7, 4)
        self.list = nn.ParameterList([both[:3], both[3:].T])
        self.dict = nn.ParameterDict({"scale": torch.ones(4)})
        self.head = nn.Linear(4, 2)
        self.register_buffer("alias", self.head.bias)
        self.number = nn.Parameter(torch.tensor([3]), requires_grad=False)

    def forward(self, x):
        return self.head(self.dict["scale"] * torch.tanh(x @ self.list[0] @ self.list[1]))


class Adapter(nn.Module):
    """A frozen layer with a low-rank addition."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.zeros(4, 2))

    def forward(self, x):
        return self.base(x) + x @ self.A.T @ self.B.T


def tied():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return Net(first, nn.Tanh(), second)


KINDS = {
    "complex": lambda: Net(Complex(), nn.Linear(4, 2)),
    "weight_norm": lambda: Net(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2)),
    "orthogonal": lambda: Net(parametrizations.orthogonal(nn.Linear(3, 3)), nn.Linear(3, 2)),
    "spectral_norm": lambda: Net(parametrizations.spectral_norm(nn.Linear(3, 4)), nn.Linear(4, 2)),
    "sparse": lambda: Net(Words()),
    "lists": lambda: Net(Lists()),
    "lora": lambda: Net(Adapter(nn.Linear(3, 4)), nn.Linear(4, 2)),
    "tied": tied,
    "bfloat16": lambda: Net(Cast(torch.bfloat16)),
    "half": lambda: Net(Cast(torch.float16)),
    "double": lambda: Net(Cast(torch.float64)),
}


def made(kind):
    torch.manual_seed(3)
    return KINDS[kind]()


def fit(module, algorithm=None, rounds=1, **kwargs):
    federation = Federation(module, algorithm, LocalTraining(epochs=1), **kwargs)
    trainer(rounds).fit(federation, loader([Samples(0, 8, 2), Samples(1, 12, 2)]))
    return federation


def high(tensor):
    return tensor.to(torch.promote_types(tensor.dtype, torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_is_the_mean_by_samples_of_what_clients_have_learned(kind, monkeypatch):
    module, learned = made(kind), []
    start = copy.deepcopy(module.state_dict())
    monkeypatch.setattr(
        type(module), "on_train_end", lambda self: learned.append(copy.deepcopy(self.state_dict())), False
    )
    fit(module)
    assert len(learned) == 2 and any(not torch.equal(v, start[n]) for n, v in module.state_dict().items())
    for name, found in module.state_dict().items():
        wanted = (8 * high(learned[0][name]) + 12 * high(learned[1][name])) / 20
        if name.endswith(("._u", "._v")):  # of the norm: see below
            continue
        if found.is_floating_point() or found.is_complex():
            rough = found.dtype in (torch.bfloat16, torch.float16)  # the change is rounded, too
            torch.testing.assert_close(high(found), wanted, rtol=0, atol=1e-2 if rough else 1e-6)
        else:
            assert torch.equal(found, start[name])
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, start[name])


OTHERS = {
    "prox": {"algorithm": FedProx(0.1)},
    "scaffold": {"algorithm": SCAFFOLD()},
    "scaffold 1": {"algorithm": SCAFFOLD(option=1)},
    "mime": {"algorithm": Mime()},
    "nova": {"algorithm": FedNova()},
    "lin": {"algorithm": FedLin()},
    "mvr": {"algorithm": FedShuffleMVR()},
    "median": {"aggregator": CoordinateMedian()},
    "geometric": {"aggregator": GeometricMedian()},
    "fedadam": {"server_optimizer": lambda p: FedAdam(p, lr=0.01)},
    "fedyogi": {"server_optimizer": lambda p: FedYogi(p, lr=0.01)},
    "adam": {"server_optimizer": lambda p: torch.optim.Adam(p, lr=0.01)},
    "noise": {"attack": Attack([0], "noise")},
}


@pytest.mark.parametrize("kind", ["complex", "sparse"])
@pytest.mark.parametrize("what", OTHERS)
def test_every_kind_of_algorithm(kind, what):
    module = made(kind)
    start = copy.deepcopy(module.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Casting complex values to real")
        fit(module, rounds=2, **copy.deepcopy(OTHERS[what]))
    weight = "net.0.w" if kind == "complex" else "net.0.table.weight"
    moved = module.state_dict()[weight] - start[weight]
    assert moved.isfinite().all() and moved.abs().max() > 0
    if kind == "complex":
        assert moved.imag.abs().max() > 0


class Parts(nn.Module):
    """Complex weights as two real ones."""

    def __init__(self, whole):
        super().__init__()
        self.re, self.im = (
            nn.Parameter(whole.w.detach().real.clone()),
            nn.Parameter(whole.w.detach().imag.clone()),
        )
        self.register_buffer("m_re", torch.zeros(4))
        self.register_buffer("m_im", torch.zeros(4))

    def forward(self, x):
        re, im = x @ self.re, x @ self.im
        if self.training:
            self.m_re.copy_(0.9 * self.m_re + 0.1 * re.detach().mean(0))
            self.m_im.copy_(0.9 * self.m_im + 0.1 * im.detach().mean(0))
        return (re.square() + im.square()).sqrt()


@pytest.mark.parametrize("what", [name for name in OTHERS if name != "noise"])
def test_complex_weights_are_two_real_ones_under_every_algorithm(what):
    one = made("complex")
    two = Net(Parts(one.net[0]), copy.deepcopy(one.net[1]))
    for module in (one, two):
        fit(module, rounds=2, **copy.deepcopy(OTHERS[what]))
    found, wanted = one.net[0], two.net[0]
    rough = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(found.w, torch.complex(wanted.re, wanted.im), **rough)
    torch.testing.assert_close(found.m, torch.complex(wanted.m_re, wanted.m_im), **rough)


def test_sums_and_means_of_complex_numbers():
    terms = [torch.tensor([1 + 2j, -3j]), torch.tensor([4j, 1 + 0j])]
    total = RunningSum({"z": terms[0], "w": torch.zeros(1)})
    for term, weight in zip(terms, (1.0, 3.0), strict=True):
        total.add({"z": term, "w": torch.ones(1)}, weight)
    wanted = torch.tensor([0.25 + 3.5j, 0.75 - 0.75j])
    assert torch.equal(total.mean()["z"], wanted) and total.mean()["z"].dtype == torch.complex64
    parts = {0: {"z": terms[0]}, 1: {"z": terms[1]}}
    assert torch.equal(combine(parts, {0: 0.25, 1: 0.75})["z"], wanted)
    assert float(_norm({"z": torch.tensor([3 + 4j])})) == 5.0


def test_a_complex_number_that_is_not_finite_is_found():
    assert all_finite([torch.ones(2, dtype=torch.complex64)])
    assert not all_finite([torch.tensor([complex(1.0, float("nan"))])])


def test_complex_matrices_are_factored_whole():
    whole = {"w": torch.outer(torch.tensor([1 + 1j, 2j, 1.0, 0]), torch.tensor([1.0, -1j, 3, 2 + 1j]))}
    sent = compress(whole, 0.99)
    assert "w/left" in sent
    torch.testing.assert_close(restore(sent, whole)["w"], whole["w"])


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_a_spectral_norm_is_that_of_the_averaged_weights(norm):
    torch.manual_seed(3)
    module = Net(norm(nn.Linear(3, 4)), nn.Linear(4, 2)).eval()
    layer = module.net[0]
    fit(module, rounds=2)
    module.eval()(torch.ones(1, 3))  # the older one computes its weight in forward
    assert float(torch.linalg.matrix_norm(layer.weight, 2)) == pytest.approx(1.0, abs=1e-5)
    mode = [part.training for part in module.modules()]
    settle(module)
    assert [part.training for part in module.modules()] == mode


class Lookalike(Net):
    """Ties by memory, as older code does; `reach` values of the second are the first's."""

    def __init__(self, reach):
        super().__init__(nn.Linear(3, 2), nn.Linear(2, 2))
        both = torch.randn(12)
        self.net[0].weight = nn.Parameter(both[:6].view(2, 3))
        self.net[1].weight = nn.Parameter(both[6 - reach : 10 - reach].view(2, 2))


def test_tensors_that_are_views_of_each_other_are_refused_before_the_first_round():
    with pytest.raises(
        ValueError, match=r"Lookalike.net.0.weight and Lookalike.net.1.weight are two tensors"
    ):
        fit(Lookalike(1))
    fit(Lookalike(0))
    columns = torch.randn(4, 4)
    apart = nn.ParameterList([columns[:, :2], columns[:, 2:]])
    check_memory(apart)  # they interleave, and have no value in common


def test_a_sparse_optimizer_and_accumulation():
    module = Net(Words(), optimizer=lambda p, lr: torch.optim.SparseAdam(list(p), lr=lr))
    before = module.net[0].table.weight.detach().clone()
    federation = Federation(module, local=LocalTraining(epochs=1, accumulate_grad_batches=2))
    trainer(1).fit(federation, loader([Samples(0, 8, 2), Samples(1, 12, 2)]))
    assert not torch.equal(before, module.net[0].table.weight)


def test_a_buffer_that_is_a_parameter_travels_once_and_follows_the_servers_optimizer(monkeypatch):
    module, learned = made("lists"), []
    start = module.net[0].head.bias.detach().clone()
    monkeypatch.setattr(
        Net, "on_train_end", lambda self: learned.append(self.net[0].head.bias.detach().clone()), False
    )
    federation = fit(module, server_optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
    assert "net.0.alias" not in federation.shared_buffers
    wanted = start + 0.5 * ((8 * learned[0] + 12 * learned[1]) / 20 - start)
    torch.testing.assert_close(module.net[0].head.bias.detach(), wanted)
    assert module.net[0].alias is module.net[0].head.bias
