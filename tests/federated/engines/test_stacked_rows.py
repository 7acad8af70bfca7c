"""What a stack does for all of its clients at once is what it would do for each: seeds, batches, norms, linear layers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import linear
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.datamodules.federated.client_data import ClientShard
from lkd.datamodules.samples.batching import Batching
from lkd.federated.client.batches import passes
from lkd.federated.client.stacked.linear import StackedLinear
from lkd.federated.client.stacked.replies import _lengths
from lkd.federated.client.stacked.rows import RowPasses
from lkd.federated.protocol.seeds import derive, derive_each
from lkd.federated.protocol.tensors import NormedTensors, measured, norm


def test_seeds_are_those_of_each_client():
    draw = np.random.default_rng(0)
    cases = [
        (0, 3, np.arange(300)),
        (2**63 - 1, 0, np.array([0, 2**32 - 1, 2**32, 2**40])),  # of one word and of two
        (draw.integers(0, 2**63 - 1, 200), np.zeros(200, dtype=np.int64)),
        (*draw.integers(0, 2**33, (3, 200)), 1, 2),  # more words than SeedSequence's pool
    ]
    for parts in cases:
        rows = zip(*np.broadcast_arrays(*parts), strict=True)
        assert derive_each(*parts) == [derive(*map(int, row)) for row in rows]


def shards(sizes, drop_last=False):
    x = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, torch.arange(len(x)))
    batching = Batching(DataLoader(data, batch_size=4, drop_last=drop_last))
    ends = list(itertools.accumulate(sizes, initial=0))
    rows = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    return [
        ClientShard(i, str(i), 0.1, 1.0, {"train": (batching, each)}, len(sizes))
        for i, each in enumerate(rows)
    ]


@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_those_of_each_client(drop_last):
    """Clients with one, two and three batches an epoch, over several epochs."""
    clients = shards([4, 7, 11, 8], drop_last)
    seeds = [derive(0, client.id) for client in clients]
    rows, alone = RowPasses(clients, seeds), [passes(c, s) for c, s in zip(clients, seeds, strict=True)]
    assert rows.usable
    for _ in range(7):
        ends, now = rows.step()
        wanted = [next(each) for each in alone]
        assert list(ends) == [end for end, _ in wanted]
        for k, (_, (x, y)) in enumerate(wanted):
            found = now.gathered([k])
            assert torch.equal(found[0][0], x) and torch.equal(found[1][0], y)


def test_clients_whose_batches_are_more_than_rows_give_their_own():
    data = FederatedDataModule(Digits(batch_size=16), IID(), clients=3)
    data.setup("fit")
    mine = shards([4, 7])
    assert not RowPasses([mine[0], object()], [1, 2]).usable  # a client of anybody's
    assert not RowPasses([mine[0], data.clients[0]], [1, 2]).usable  # other tensors
    mine[0].parts["train"][0].carry = lambda batch: batch
    assert not RowPasses(mine, [1, 2]).usable


def test_a_client_without_a_batch_is_named():
    with pytest.raises(ValueError, match="client 1 has no training batch"):
        RowPasses(shards([4, 3], drop_last=True), [1, 2])


def test_norms_of_all_clients_at_once():
    values = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    more = torch.randn(3, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    found = _lengths([values, more, torch.ones(3, dtype=torch.int64), torch.zeros(3, 0)], 3)
    for k in range(3):
        assert found[k] == pytest.approx(norm({"a": values[k], "b": more[k]}), rel=1e-6)
    wide = torch.tensor([[3e38, 3e38], [1.0, torch.nan], [torch.inf, 0.0], [1e-45, 0.0]])
    large, nan, infinite, tiny = _lengths([wide], 4)
    assert large == pytest.approx(3e38 * math.sqrt(2)) and 0 < tiny < 1e-44
    assert not math.isfinite(nan) and not math.isfinite(infinite)
    assert math.isfinite(_lengths([torch.full((1, 2), 1e300, dtype=torch.float64)], 1)[0])


def test_a_norm_that_is_known_is_not_computed_again():
    known = measured({"w": torch.tensor([3.0, 4.0])})
    assert isinstance(known, NormedTensors) and (known.length, norm(known), norm(dict(known))) == (
        5.0,
        5.0,
        5.0,
    )
    assert measured({"w": torch.tensor([torch.nan])}) is None
    assert measured({"w": torch.tensor([1e300], dtype=torch.float64)}) is not None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (3,)])
def test_linear_layers_of_a_stack(shape, bias):
    """The same values and gradients as each client's own; for a batch of vectors, gradients that lie as weights do."""
    g = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(4, *s, generator=g, dtype=torch.float64) for s in (shape, (2, 3), (2,)))
    w.requires_grad_()
    given = (x, w, b) if bias else (x, w)
    wanted = torch.stack([linear(*(t[k] for t in given)) for k in range(4)])
    (gradient,) = torch.autograd.grad(wanted.square().sum(), w)
    with StackedLinear():
        found = torch.func.vmap(linear)(*given)
    assert found.is_contiguous() or len(shape) != 2
    torch.testing.assert_close(found, wanted)
    (stacked,) = torch.autograd.grad(found.square().sum(), w)
    torch.testing.assert_close(stacked, gradient)
    assert stacked.stride() == w.stride() or len(shape) != 2


def test_linear_layers_outside_of_a_stack_stay_as_they_are():
    x, w = torch.randn(5, 3), torch.randn(2, 3)
    with StackedLinear():
        found = linear(x, w)
        common = torch.func.vmap(lambda one: linear(one, w))(x.expand(4, 5, 3))
    assert torch.equal(found, linear(x, w))  # the same call, not another with its result
    torch.testing.assert_close(common[0], x @ w.T)
