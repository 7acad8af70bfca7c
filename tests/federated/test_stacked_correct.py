"""Three clients stacked along a leading dimension are corrected as three clients one by one, bit for bit."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lkd.federated
from lkd.federated import SCAFFOLD, FedLin, FedNova, FedProx, FedShuffleMVR, Mime, MimeLite
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext, spread

K, SHAPES = 3, [(4, 5), (7,), ()]
ALGORITHMS = {
    type(algorithm): algorithm
    for algorithm in (
        FedProx(mu=0.3), FedNova(mu=0.2), SCAFFOLD(), FedLin(), MimeLite(beta=0.7), Mime(beta=0.7), FedShuffleMVR(a=0.4)
    )
}  # fmt: skip


def draws(seed, *lead):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((*lead, *shape), generator=generator) for shape in SHAPES]


def context(params, grads, x, received, state, there, rate=0.1, planned=4):
    """A client, or several stacked ones, in the middle of a round; `there` are the gradients at x."""
    live = [nn.Parameter(p.clone()) for p in params]
    for parameter, gradient in zip(live, grads, strict=True):
        parameter.grad = gradient.clone()
    optimizer = torch.optim.SGD(live, lr=0.1)
    optimizer.param_groups[0]["lr"] = rate
    loop = SimpleNamespace(
        worker=SimpleNamespace(module=None, shared=list("abc"), parameters=live),
        local_optimizer=SimpleNamespace(optimizer=optimizer),
        gradient_at=lambda point: [t.clone() for t in there] if point is made.x else None,
    )
    made = ClientContext(loop, x, received, state, {"steps": planned, "most": 8.0}, client=None)
    made.steps = planned
    return made


def kept(k=None):
    """What clients keep, of one of them or stacked."""
    found = {"c": draws(5, K), "gradient": draws(6, K)}
    return {key: [t.clone() if k is None else t[k].clone() for t in value] for key, value in found.items()}


def pick(tensors, k):
    return [tensor[k] for tensor in tensors]


@pytest.mark.parametrize("expanded", [False, True], ids=["common", "stacked"])
@pytest.mark.parametrize("kind", ALGORITHMS, ids=lambda kind: kind.__name__)
def test_correct_of_a_stack(kind, expanded):
    algorithm = ALGORITHMS[kind]
    params, grads, there, x = draws(0, K), draws(1, K), draws(2, K), draws(3)
    received = {name: draws(10 + i) for i, name in enumerate(("c", "m", "mean"))}
    singles = [
        context(pick(params, k), pick(grads, k), x, received, kept(k), pick(there, k)) for k in range(K)
    ]
    for single in singles:  # client by client
        algorithm.begin(single)

    def of_all(tensors):
        return [t.expand(K, *t.shape) for t in tensors] if expanded else tensors

    stack = context(
        params, grads, of_all(x), {name: of_all(group) for name, group in received.items()}, kept(), there
    )
    stack.correction = [
        torch.stack(each) for each in zip(*(single.correction for single in singles), strict=True)
    ]
    algorithm.correct(stack)
    for k, single in enumerate(singles):
        algorithm.correct(single)
        for found, expected, before in zip(pick(stack.grads, k), single.grads, pick(grads, k), strict=True):
            assert torch.equal(found, expected)
            assert not torch.equal(expected, before)


def algorithms(kind=Algorithm):
    """All of lkd's."""
    return {kind, *(found for sub in kind.__subclasses__() for found in algorithms(sub))}


def test_every_algorithm_that_corrects_is_here():
    corrects = {
        kind
        for kind in algorithms()
        if kind.__module__.startswith(lkd.federated.__name__) and kind.correct is not Algorithm.correct
    }
    assert corrects == ALGORITHMS.keys()


def test_rates_of_a_stack():
    """Clients whose rates differ: FedLin's steps, and the variates of SCAFFOLD."""
    rates = torch.tensor([0.1, 0.0, 0.3], dtype=torch.float64)
    params, x, received = draws(0, K), draws(3), {"c": draws(4)}
    stack = context(params, params, x, received, kept(), None, rates)
    stack.correction = draws(9, K)
    (change,) = SCAFFOLD().finish(stack).values()
    for k in range(K):
        single = context(pick(params, k), pick(params, k), x, received, kept(k), None, rates[k].item())
        single.correction = pick(stack.correction, k)
        (expected,) = SCAFFOLD().finish(single).values()
        for i, one in enumerate(expected):
            assert torch.equal(change[i][k], one)
    stack.scale_rates(0.5)
    assert all(torch.equal(rate, rates / 2) for rate in stack.rates)
    assert spread(rates, torch.ones(K, 4, 5)).shape == (K, 1, 1)


def test_planned_steps_of_a_stack():
    planned = torch.tensor([1, 2, 4])
    stack = context(draws(0, K), draws(1, K), draws(3), {"mean": draws(4)}, kept(), None, planned=planned)
    FedLin().begin(stack)
    assert [rate.tolist() for rate in stack.rates] == [pytest.approx([0.1, 0.05, 0.025])] * len(SHAPES)
    for k in range(K):
        for i, mean in enumerate(draws(4)):
            assert torch.equal(stack.correction[i][k], mean - kept(k)["gradient"][i])
