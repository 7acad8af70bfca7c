"""The training step as a pure function: five clients stacked are five clients one by one, in gradients and in logs."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.func import grad, stack_module_state, vmap
from torchmetrics import MeanMetric

from lkd.copies import copied
from lkd.distillation import Distiller
from lkd.distillation.adapters import ADAPTERS
from lkd.federated.client.functional_step import functional_step
from lkd.federated.client.logger import Log
from lkd.losses import DIST, DKD, KD, NKD, PKT, RKD, FitNets
from lkd.models import MLP
from lkd.modules import Classifier
from lkd.teachers import Teacher

from ..modules.modalities import client as several
from ..modules.modalities import samples

K = 5


def classifier(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    layers = [MLP(6, 8, hidden=[10]), nn.Dropout(dropout), nn.Linear(8, 3)]
    return Classifier(nn.Sequential(*layers), num_classes=3).double()


def cohort(make=classifier):
    """Parameters, buffers and batches of five clients, stacked."""
    params, buffers = stack_module_state([make(seed) for seed in range(K)])
    return {n: p.detach() for n, p in params.items()}, buffers, batches()


def batches():
    torch.manual_seed(7)
    return torch.randn(K, 4, 6, dtype=torch.float64), torch.randint(3, (K, 4))


def one(tree, k):
    return {name: tensor[k] for name, tensor in tree.items()}


def by_hand(module, params, batch):
    """Gradients and logs of one client as the loop has them: a backward on live parameters."""
    log = Log()
    module.log = log
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(params[name])
            parameter.grad = None
    module.training_step(batch, 1).backward()
    return {n: p.grad for n, p in module.named_parameters()}, log.compute()


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.as_tensor(found[name]), torch.as_tensor(value), rtol=0, atol=1e-12)


def stacked_is_single(module):
    """Compares a module's stacked step with the steps of its clients."""
    log = Log()
    params, buffers, (x, y) = cohort()
    step = functional_step(module, log, example=(x[0], y[0]))
    before = {n: t.clone() for n, t in module.state_dict().items()}
    gradients, (logs, after) = vmap(grad(step, has_aux=True))(params, buffers, (x, y))
    assert log.compute() == {} and after.keys() == buffers.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in module.parameters())
    for k in range(K):
        expected, logged = by_hand(module, one(params, k), (x[k], y[k]))
        client = Log()
        client.add(one(logs, k), log)
        same(one(gradients, k), expected)
        same(client.compute(), logged)
    return logs


def test_five_stacked_clients_are_five_clients():
    assert list(stacked_is_single(classifier())) == ["train/loss"]


def test_with_a_teacher_in_common():
    module, teacher = classifier(), Teacher(classifier(11))
    features = {"student_layer": "network.0", "teacher_layer": "network.0"}
    terms = [
        KD(temperature=2.0, weight=0.9),
        DKD(),
        NKD(),
        DIST(),
        FitNets(**features),
        RKD(**features),
        PKT(**features),
    ]
    Distiller(teacher, terms, alpha=0.1).attach(module, tuple(part[0] for part in batches()))
    logs = stacked_is_single(module)
    names = {
        "train/loss",
        *(f"distillation/{name}" for name in ("kd", "dkd", "nkd", "dist", "fitnets", "rkd", "pkt", "total")),
    }
    assert logs.keys() == names


def test_adapters_are_a_clients_own():
    """As at a worker, where they are children of the module."""
    x, y = batches()
    teacher = Classifier(nn.Sequential(MLP(6, 12), nn.Linear(12, 3)), num_classes=3).double()
    module, log = classifier(), Log()
    term = FitNets(student_layer="network.0", teacher_layer="network.0")
    Distiller(Teacher(teacher), [term]).attach(module, (x[0], y[0]))
    module.add_module(ADAPTERS, vars(module).pop(ADAPTERS).double())
    torch.manual_seed(3)
    params = {n: p.detach() + torch.randn(K, *p.shape).double() for n, p in module.named_parameters()}
    assert any(name.startswith(ADAPTERS) for name in params)
    step = functional_step(module, log, example=(x[0], y[0]))
    gradients, _ = vmap(grad(step, has_aux=True))(params, {}, (x, y))
    for k in range(K):
        same(one(gradients, k), by_hand(module, one(params, k), (x[k], y[k]))[0])


def test_a_teacher_in_common_where_the_students_own_step_is_not_run():
    module = classifier()
    Distiller(Teacher(classifier(11)), [KD()], alpha=0.0).attach(module)
    assert stacked_is_single(module).keys() == {"distillation/kd", "distillation/total"}


def test_dropout_draws_for_every_client():
    module, log = classifier(dropout=0.5), Log()
    params, buffers, (x, y) = cohort()
    alike = {name: tensor[:1].expand_as(tensor) for name, tensor in params.items()}
    batch = (x[:1].expand_as(x), y[:1].expand_as(y))
    stacked = vmap(functional_step(module, log, example=(x[0], y[0])), randomness="different")
    losses, (logs, _) = stacked(alike, buffers, batch)
    assert len(set(losses.tolist())) == K
    assert torch.equal(logs["train/loss"], losses)
    module.eval()
    assert len(set(stacked(alike, buffers, batch)[0].tolist())) == 1


@pytest.mark.parametrize("fusion", ["late", "mean", "concat", "gated", "attention"])
def test_clients_of_several_modalities_that_all_samples_have(fusion):
    options = {"fusion": fusion, "completion": "prototype", "unimodal": 0.5, "agreement": 0.3}
    clients, log = [several(seed=seed, **options).double() for seed in range(K)], Log()
    x, y = whole(4 * K)
    x = {m: values.reshape(K, 4, *values.shape[1:]) for m, values in x.items()}
    params, buffers = stack_module_state(clients)
    step = functional_step(clients[0], log, example=(one(x, 0), y[:4]))
    batch = (x, y.reshape(K, 4))
    gradients, (logs, after) = vmap(grad(step, has_aux=True))(params, buffers, batch)
    for k, client in enumerate(clients):
        expected, logged = by_hand(client, one(params, k), (one(x, k), batch[1][k]))
        assert {n for n, g in expected.items() if g is not None} and after[
            "network.prototypes.acc.sums"
        ].any()
        same(
            {n: g for n, g in one(gradients, k).items() if expected[n] is not None},
            {n: g for n, g in expected.items() if g is not None},
        )
        same(one(after, k), dict(client.named_buffers()))
        mine = Log()
        mine.add(one(logs, k), log)
        same(mine.compute(), logged)


def whole(count):
    """Samples that have everything, without a word of who has what."""
    x, y = samples(count, missing=0.0)
    return {m: values.double() for m, values in x.items() if m != "present"}, y


@pytest.mark.parametrize(
    "options", [{}, {"completion": "prototype", "agreement": 0.4}, {"fusion": "attention"}]
)
def test_masks_that_leave_nobody_out_change_no_bit(options):
    x, y = whole(8)
    masks = {m: torch.ones(8, dtype=torch.bool) for m in x}
    results = []
    for given in (x, {**x, "present": masks}, {**x, "present": {"gyro": masks["gyro"]}}):
        module = several(**options).double()
        gradients, logs = by_hand(module, dict(several(**options).double().named_parameters()), (given, y))
        results.append(
            ({n: g for n, g in gradients.items() if g is not None}, logs, dict(module.named_buffers()))
        )
    for gradients, logs, buffers in results[1:]:
        assert logs == results[0][1] and gradients.keys() == results[0][0].keys()
        assert all(torch.equal(gradient, results[0][0][n]) for n, gradient in gradients.items())
        assert all(torch.equal(buffer, results[0][2][n]) for n, buffer in buffers.items())


class Normalizes(LightningModule):
    """Has batch statistics, a buffer that a step assigns anew, and logs of every kind."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def training_step(self, batch):
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.seen = self.seen + len(x)
        self.log("size", float(len(x)), reduce_fx="sum")
        for part in (loss, 2 * loss):
            self.log("part", part, batch_size=len(x))
            self.log("largest", part, reduce_fx="max")
        self.log_dict({"seen": self.seen})
        return {"loss": loss, "more": x}


def test_buffers_are_returned():
    module, log = Normalizes(), Log()
    (x, y), clients = batches(), [Normalizes(seed) for seed in range(K)]
    params, buffers = stack_module_state(clients)
    step = functional_step(module, log)
    losses, (logs, after) = vmap(step)(params, buffers, (x, y))
    assert module.seen == 0 and module.net[1].num_batches_tracked == 0
    assert torch.equal(module.net[1].running_mean, torch.zeros(4, dtype=torch.float64))
    for k, client in enumerate(clients):
        client.log = Log()
        loss = client.training_step((x[k], y[k]))["loss"]
        same(one(after, k), dict(client.named_buffers()))
        torch.testing.assert_close(losses[k], loss, rtol=0, atol=1e-12)
        mine = Log()
        mine.add(one(logs, k), log)
        same(mine.compute(), client.log.compute())
    assert not any(buffer.any() for name, buffer in buffers.items() if "running_var" not in name)


def test_the_first_batch_is_looked_at_and_others_are_not():
    module = classifier()
    x, y = (part[0] for part in batches())
    with pytest.raises(ValueError, match="labels from 5 to 5: num_classes is 3"):
        functional_step(module, Log(), example=(x, torch.full_like(y, 5)))
    step = functional_step(module, Log(), example=(x, y))
    loss, _ = step(dict(module.named_parameters()), {}, (x * torch.nan, y))
    assert loss.isnan()


class Wrong(Classifier):
    """Does what a stacked step cannot."""

    def __init__(self, what):
        super().__init__(nn.Linear(6, 3), 3)
        self.what = what
        self.mean = MeanMetric()

    def training_step(self, batch, batch_idx=0):
        loss = super().training_step(batch, batch_idx)
        if self.what == "metric":
            self.log("mean", self.mean)
        return None if self.what == "nothing" else loss


@pytest.mark.parametrize(
    ("what", "message"), [("metric", "log a tensor"), ("nothing", "cannot skip a batch")]
)
def test_what_a_stacked_step_cannot_do(what, message):
    module = copied(Wrong(what).double(), "module")
    x, y = (part[0] for part in batches())
    with pytest.raises(ValueError, match=message):
        functional_step(module, Log())(dict(module.named_parameters()), {}, (x, y))
    assert "log" not in vars(module)
