"""The running sum: the same bits for any order and any split over ranks, where plain float64 sums differ."""

import itertools
import math
import threading
from fractions import Fraction

import pytest
import torch
from lightning.pytorch import Trainer

from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import Federation
from lkd.federated.client.verbs import _apart
from lkd.federated.protocol.tensors import measured, norm
from lkd.federated.server import grid_sum
from lkd.federated.server.grid_level import BITS, STEP, TURNS, Level
from lkd.federated.server.grid_sum import CHUNK
from lkd.federated.server.weighted_sum import RunningSum
from lkd.models import MLP
from lkd.modules import Classifier

# a plain float64 sum of these depends on the order: 1e16 swallows the 1
VALUES = ((1e16, 1.0), (1.0, 3.0), (-1e16, 1.0))
TYPES = [torch.float32, torch.float64]


def terms(dtype):
    return [({"w": torch.tensor([v, -v], dtype=torch.float64).to(dtype)}, w) for v, w in VALUES]


def total(terms, like=None):
    result = RunningSum(terms[0][0] if like is None else like)
    for tensors, weight in terms:
        result.add(tensors, weight)
    return result


def joined(parts, like):
    """What each of several ranks has after they have joined their sums, each in a thread of its own."""
    barrier, sent, found = threading.Barrier(len(parts), timeout=60), [None] * len(parts), [None] * len(parts)

    def work(rank):
        def gather(flat):
            barrier.wait()  # all have read the former exchange
            sent[rank] = flat.clone()
            barrier.wait()
            return list(sent)

        mine = total(parts[rank], like)
        mine.gather(gather, "cpu")
        found[rank] = mine

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def clients(count, sizes, dtype=torch.float32, seed=0, spread=1.0):
    """Replies of very different sizes, with weights of all kinds."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        scale = 10.0 ** float(spread * 4 * torch.randn((), generator=g).clamp(-2, 2))
        values = {
            f"t{i}": (scale * torch.randn(size, generator=g, dtype=torch.float64)).to(dtype)
            for i, size in enumerate(sizes)
        }
        weight = float(torch.randint(1, 900, (), generator=g)) * (1.0 if count % 2 else 1 / 7)
        found.append((values, weight))
    return found


def exact(given, name):
    """The sum in fractions."""
    found = [Fraction(0)] * given[0][0][name].numel()
    for tensors, weight in given:
        values = tensors[name].double().flatten().tolist()
        found = [a + Fraction(weight) * Fraction(b) for a, b in zip(found, values, strict=True)]
    return found


def test_these_terms_tell_a_plain_sum_from_an_exact_one():
    for dtype in TYPES:
        orders = itertools.permutations(terms(dtype))
        assert len({sum(float(t["w"][0]) * w for t, w in order) for order in orders}) > 1


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_gives_the_exact_sum(order, dtype):
    result = total([terms(dtype)[i] for i in order])
    assert result.sum()["w"].tolist() == [3.0, -3.0]
    assert result.mean()["w"].tolist() == torch.tensor([3.0 / 5.0, -3.0 / 5.0], dtype=dtype).tolist()
    assert (result.weight, result.count) == (5.0, 3)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ranks", [([0], [1, 2]), ([2, 1], [0]), ([0, 1, 2], []), ([0, 2], [1])])
def test_any_split_over_ranks_gives_the_same(ranks, dtype):
    given = terms(dtype)
    for one in joined([[given[i] for i in mine] for mine in ranks], given[0][0]):
        assert one.sum()["w"].tolist() == [3.0, -3.0]
        assert (one.weight, one.count) == (5.0, 3)


@pytest.mark.parametrize("count", [5, 40, 2 * TURNS + 1, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_bits_do_not_depend_on_order_or_ranks(count, dtype):
    spread = 0.2 if dtype == torch.float16 else 1.0
    given = clients(count, (3, 7), dtype, seed=count, spread=spread)
    first = total(given)
    g = torch.Generator().manual_seed(1)
    for ranks in (1, 2, 3, 7):
        order = torch.randperm(count, generator=g).tolist()
        parts = [[given[i] for i in order if i % ranks == rank] for rank in range(ranks)]
        for one in joined(parts, given[0][0]):
            assert (one.weight, one.count) == (first.weight, first.count)
            for found, wanted in ((one.sum(), first.sum()), (one.mean(), first.mean())):
                assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("count", [1, 33, 100])
def test_nothing_is_lost(count):
    """The error of a sum is at most 2**-42 of the norms of what was added; beside it only float32 rounds."""
    given = clients(count, (50,), seed=count)
    found = total(given).sum()["t0"].tolist()
    bound = sum(weight * float(t["t0"].double().norm()) for t, weight in given) * 2.0**-42
    for value, wanted in zip(found, exact(given, "t0"), strict=True):
        assert abs(Fraction(value) - wanted) <= Fraction(bound) + abs(wanted) * Fraction(2.0**-24)


def test_numbers_of_one_size_are_summed_exactly():
    """Within 2**-18 of the largest number no bit is lost, however many clients there are."""
    g = torch.Generator().manual_seed(0)
    given = [({"w": torch.randint(1, 2**24, (20,), generator=g).float()}, 3.0) for _ in range(300)]
    found = total(given).sum()["w"].tolist()
    wanted = [float(torch.tensor(float(w), dtype=torch.float64).float()) for w in exact(given, "w")]
    assert found == wanted


def test_equal_replies_have_themselves_as_their_mean():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    result = total([({"w": values}, weight) for weight in (0.1, 1 / 3, 17.0, 523.0)])
    torch.testing.assert_close(result.mean()["w"], values, rtol=0, atol=2.0**-40)
    near = values.abs() > 1e-3  # smaller ones may be rounded by the grid
    assert torch.equal(result.mean()["w"][near], values[near])


def test_ties_are_rounded_alike_whatever_the_sum_before():
    """A term halfway between two points of the grid goes to the even one, and not where the sum would be even."""
    grid = 2.0 ** (STEP * 3 - BITS)
    terms = [grid * (k + 0.5) for k in range(9)] + [grid * k for k in range(5)]
    found = set()
    for seed in range(20):
        level = Level(1, 3, torch.device("cpu"))
        for i in torch.randperm(len(terms), generator=torch.Generator().manual_seed(seed)).tolist():
            level.add(torch.tensor([terms[i]], dtype=torch.float64), 1.0)
        level.add_to(one := torch.zeros(1, dtype=torch.float64))
        found.add(one.item() / grid)
    assert found == {sum(round(k + 0.5) for k in range(9)) + sum(range(5))}


def test_more_values_than_a_chunk_and_a_fresh_start():
    g = torch.Generator().manual_seed(0)
    values = torch.randn(2 * CHUNK + 7, generator=g)
    result = RunningSum({"a": values[:5], "b": values[5:]})
    for _ in range(2):  # the second time after a reset
        result.reset()
        for weight in (1.0, 2.0):
            result.add({"a": weight * values[:5], "b": weight * values[5:]}, weight)
        torch.testing.assert_close(result.mean()["b"], values[5:] * 5 / 3)
        assert result.mean()["a"].dtype == torch.float32


def test_a_sum_goes_on_after_it_was_read(monkeypatch):
    given = clients(3 * TURNS, (4,), seed=3, spread=0.0)  # which share a grid
    result = RunningSum(given[0][0])
    for i, (tensors, weight) in enumerate(given):
        result.add(tensors, weight)
        assert i % 9 or torch.equal(result.sum()["t0"], total(given[: i + 1]).sum()["t0"])
        result.sum()
    monkeypatch.setattr(
        grid_sum, "HELD", 1
    )  # one client after the other has the same bits as several at once
    assert torch.equal(total(given).sum()["t0"], result.sum()["t0"])


def test_a_level_that_is_read_after_every_term_stays_exact():
    level, largest = Level(1, 3, torch.device("cpu")), 2.0 ** (STEP * 3) * (1 - 2.0**-BITS)
    for _ in range(5 * TURNS):
        level.add(torch.tensor([largest], dtype=torch.float64), 1.0)
        level.add_to(torch.zeros(1, dtype=torch.float64))
    level.add_to(one := torch.zeros(1, dtype=torch.float64))
    grid = Fraction(2) ** (STEP * 3 - BITS)
    term = round(Fraction(largest) / grid) * grid
    assert one.item() == float(5 * TURNS * term)


def test_tiny_huge_and_absent_numbers():
    denormal, largest = torch.tensor([1e-45, -3e-42]), torch.tensor([3e38, -3e38])
    assert torch.equal(total([({"w": denormal}, 1.0)] * 3).mean()["w"], denormal)
    assert torch.equal(total([({"w": largest}, 100.0)] * 3).mean()["w"], largest)
    both = total([({"w": denormal}, 1.0), ({"w": largest}, 1.0), ({"w": -largest}, 1.0)])
    assert torch.equal(both.sum()["w"], denormal)
    nothing = total([({"w": torch.zeros(0), "v": torch.zeros(())}, 1.0)])
    assert nothing.mean()["w"].shape == (0,) and nothing.mean()["v"].item() == 0
    assert total([({}, 2.0)]).mean() == {}
    assert total([({"w": largest}, 0.0), ({"w": denormal}, 1.0)]).mean()["w"].tolist() == denormal.tolist()


def test_what_is_not_finite_stays_so_on_all_ranks():
    """The server's step looks at the result, and stops the run."""
    given = [({"w": torch.tensor([1.0, torch.inf, 2.0])}, 1.0), ({"w": torch.tensor([1.0, 1.0, 1.0])}, 1.0)]
    for one in joined([given[:1], given[1:], []], given[0][0]):
        assert one.sum()["w"].tolist() == [2.0, torch.inf, 3.0]
    assert total([({"w": torch.tensor([3e38])}, 1e300)]).sum()["w"].item() == torch.inf


def test_types_of_all_kinds_in_one_sum():
    g = torch.Generator().manual_seed(0)
    like = {
        "z": torch.randn(2, 3, dtype=torch.complex64, generator=g),
        "d": torch.randn(4, dtype=torch.float64, generator=g),
        "h": torch.randn(5, generator=g).half(),
        "c": torch.randn(2, dtype=torch.complex128, generator=g),
        "t": torch.randn(3, 2, generator=g).T,
    }
    found = total([(like, 1.0), ({name: 2 * t for name, t in like.items()}, 3.0)]).mean()
    assert list(found) == list(like)
    for name, tensor in like.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        torch.testing.assert_close(found[name], tensor * 7 / 4)


def test_other_names_and_no_weight_are_refused():
    like = {"w": torch.zeros(2)}
    with pytest.raises(ValueError, match="'v', 'w'"):
        total([({"v": torch.zeros(2)}, 1.0)], like)
    with pytest.raises(ValueError, match="weights of 0 clients"):
        total([], like).mean()


def test_a_constant_beside_a_huge_one_stays(tmp_path):
    """A mask of -3e38 and the mean of a normalization are buffers of one module; all clients have the same."""

    class Masked(Classifier):
        def __init__(self):
            super().__init__(MLP(64, 10))
            self.register_buffer("mask", torch.full((8, 8), torch.finfo(torch.float32).min).triu(1))
            self.register_buffer("mean", torch.tensor([0.3]))
            self.register_buffer("tenth", torch.tensor([0.1], dtype=torch.float16))

    module = Masked()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Federation(module), FederatedDataModule(Digits(), IID(), clients=3))
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_a_norm_of_tensors_that_were_changed_is_computed_anew():
    found = measured({"w": torch.ones(4)})
    assert norm(found) == 2.0
    found["w"].mul_(3)
    assert norm(found) == 6.0
    found = measured({"w": torch.ones(4)})
    found["w"] = torch.tensor([float("nan"), 1e30])
    assert math.isnan(norm(found))


def test_a_tensor_that_an_algorithm_uses_again_counts_as_it_was():
    buffer = torch.zeros(3)
    first = _apart({"c": [buffer.add_(1)]})
    second = _apart({"c": [buffer.add_(1)]})
    assert first["c"][0].tolist() == [1, 1, 1] and second["c"][0].tolist() == [2, 2, 2]


def test_a_weight_that_would_lose_numbers_is_refused():
    total = RunningSum({"w": torch.zeros(1)})
    with pytest.raises(ValueError, match="weight=1e-95 is below 1e-40"):
        total.add({"w": torch.ones(1)}, 1e-95)
    for number in (1e-45, 1e-3, 1e38):
        total.reset().add({"w": torch.tensor([number])}, 1e-40)
        assert total.mean()["w"] == torch.tensor(number)
