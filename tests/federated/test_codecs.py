"""Codecs: what travels against formulas of its own, error feedback, all engines alike, resume, and replies of liars."""

import copy
import zlib
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lkd.datamodules import Digits, Dirichlet, FederatedDataModule
from lkd.federated import (
    SCAFFOLD,
    Attack,
    Codec,
    CoordinateMedian,
    Deflate,
    FedAvg,
    Federation,
    FedMD,
    Half,
    Int8,
    LocalTraining,
    LowRank,
    TopK,
)
from lkd.federated.client.encoding import encoded
from lkd.federated.engines import Loop, Processes, Stacked
from lkd.federated.protocol.messages import Reply
from lkd.federated.server.decoding import decoded, decoding
from lkd.models import MLP
from lkd.modules import Classifier

CODECS = [Half(), Half("float16"), Int8(), TopK(0.1), TopK(1.0), LowRank(2), Deflate(Int8()), Deflate(TopK(0.2)), Deflate(LowRank(1)), Deflate(Half())]  # fmt: skip
SHAPES = [(7, 5), (4, 3, 3, 3), (6,), (), (1, 1), (0, 4)]


def tensor(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_parts_have_the_form_that_is_told_and_give_the_shape_back(codec, shape, dtype):
    given = tensor(shape, dtype=dtype)
    parts = codec.encode(given)
    form = codec.form(given)
    assert parts.keys() == form.keys()
    for name, (size, kind) in form.items():
        assert parts[name].dtype == kind and (size == (-1,) or tuple(parts[name].shape) == size)
    back = codec.decode(parts, given)
    assert back.shape == given.shape and back.dtype == dtype and back.isfinite().all()
    zeros = torch.zeros(shape, dtype=dtype)
    assert torch.equal(codec.decode(codec.encode(zeros), zeros), zeros)


def test_int8_is_off_by_half_a_step_of_its_row_at_most():
    given = tensor((20, 30)) * torch.logspace(-6, 6, 20)[:, None]
    back = Int8().decode(Int8().encode(given), given)
    step = given.abs().amax(1, keepdim=True) / 127
    assert ((back - given).abs() <= step * 0.5001).all()
    assert torch.allclose(back.abs().amax(1), given.abs().amax(1))


def test_top_k_keeps_the_largest_and_nothing_else():
    given = tensor((50, 4))
    back = TopK(0.1).decode(TopK(0.1).encode(given), given)
    edge = given.abs().flatten().sort(descending=True).values[19]
    assert torch.equal(back, given * (given.abs() >= edge))
    assert torch.equal(TopK(1.0).decode(TopK(1.0).encode(given), given), given)


def test_low_rank_is_one_power_iteration_and_converges_to_the_best_matrix_of_its_rank():
    given, codec = tensor((12, 3, 2, 2)), LowRank(2)
    matrix = given.flatten(1)
    start = None
    for _ in range(200):
        parts = codec.encode(given, start)
        if start is not None:  # the paper's formula
            p = torch.linalg.qr(matrix @ start)[0]
            assert torch.allclose(p @ p.T @ matrix, (parts["p"] @ parts["q"].T), atol=1e-5)
        start = codec.start(parts, given)
    u, s, v = torch.linalg.svd(matrix)
    best = u[:, :2] * s[:2] @ v[:2]
    assert torch.allclose(codec.decode(parts, given).flatten(1), best, atol=1e-3)
    assert LowRank(2).encode(tensor((6,))).keys() == {"whole"}


@pytest.mark.parametrize("codec", [Half(error_feedback=True), Int8(), TopK(0.05), LowRank(1), Deflate(Int8())], ids=repr)  # fmt: skip
def test_what_is_left_out_is_sent_later(codec):
    """The sum of what arrived and what is kept is the sum of all changes; the mean of what arrived goes to theirs."""
    like, kept, total, arrived = {"w": tensor((20, 30))}, {}, 0, 0
    for round in range(300):
        change = {"w": like["w"] + 0.1 * tensor((20, 30), seed=round)}
        sent, kept = encoded(codec, {"delta": change}, kept)
        total, arrived = total + change["w"], arrived + decoded(codec, sent, like)["delta"]["w"]
    assert torch.allclose(arrived + kept["rest/delta/w"], total, atol=2e-2)
    assert (arrived - total).norm() / total.norm() < 0.05


def test_without_error_feedback_nothing_is_kept():
    sent, kept = encoded(Int8(error_feedback=False), {"delta": {"w": tensor((3, 2))}}, {})
    assert kept == {} and sent.keys() == {"delta.values", "delta.scales"}


def federate(codec, engine=None, algorithm=None, rounds=3, path=None, save=None, folder=None, **options):
    torch.manual_seed(0)
    module = Classifier(MLP(64, 10, hidden=[32]), num_classes=10, optimizer=partial(torch.optim.SGD, lr=0.1))
    federation = Federation(
        module,
        (algorithm or FedAvg)(),
        LocalTraining(steps=3),
        engine=engine or Loop(),
        codec=codec,
        **options,
    )
    data = FederatedDataModule(Digits(batch_size=16), Dirichlet(1.0), clients=8, seed=1)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}  # fmt: skip
    trainer = Trainer(max_epochs=rounds, accelerator="cpu", limit_val_batches=0, **quiet)
    trainer.fit(federation, data, ckpt_path=path)
    if save is not None:
        trainer.save_checkpoint(save)
    return federation


def weights(federation):
    return torch.cat([p.detach().flatten() for p in federation.model.parameters()])


def test_no_codec_and_one_that_leaves_nothing_out_are_the_same():
    assert torch.equal(weights(federate(None)), weights(federate(TopK(1.0))))


@pytest.mark.parametrize("codec", [Half(), Int8(), TopK(0.1), LowRank(2), Deflate(Int8())], ids=repr)
def test_training_goes_on_and_bytes_are_those_that_travel(codec):
    plain, coded = federate(None), federate(copy.deepcopy(codec))
    assert coded.bytes_down == plain.bytes_down and coded.bytes_up < 0.6 * plain.bytes_up
    change = weights(plain) - weights(federate(None, rounds=0))
    assert (weights(coded) - weights(plain)).norm() < (
        1.0 if isinstance(codec, TopK | LowRank) else 0.02
    ) * change.norm()
    like = dict(plain.model.named_parameters())
    if not isinstance(codec, Deflate):
        each = sum(
            torch.Size(s).numel() * d.itemsize for t in like.values() for s, d in codec.form(t).values()
        )
        assert coded.bytes_up == 3 * 8 * (each + 8)  # rounds x clients, and the number of steps


@pytest.mark.parametrize(("codec", "algorithm"), [(Int8(), FedAvg), (LowRank(2), SCAFFOLD)], ids=repr)
def test_other_processes_have_the_same_bits(codec, algorithm):
    here = federate(copy.deepcopy(codec), algorithm=algorithm)
    there = federate(copy.deepcopy(codec), Processes(workers=1, threads=torch.get_num_threads()), algorithm)
    assert torch.equal(weights(here), weights(there)) and here.bytes_up == there.bytes_up


def test_a_stack_sends_what_the_loop_sends():
    here, stacked = federate(Half()), federate(Half(), Stacked())
    assert torch.allclose(weights(here), weights(stacked), atol=2e-3) and here.bytes_up == stacked.bytes_up
    assert stacked.engine.host.store.get(0).keys() == here.engine.host.store.get(0).keys()


@pytest.mark.parametrize("codec", [Int8(), LowRank(1)], ids=repr)
def test_a_resumed_run_is_bit_identical(codec, tmp_path):
    whole = federate(copy.deepcopy(codec), rounds=4)
    federate(copy.deepcopy(codec), rounds=2, save=tmp_path / "half.ckpt")
    again = federate(copy.deepcopy(codec), rounds=4, path=tmp_path / "half.ckpt")
    assert torch.equal(weights(whole), weights(again)) and whole.bytes_up == again.bytes_up
    with pytest.raises(ValueError, match=r"of the codec Int8.*resume with codec=Int8|of the codec LowRank"):
        federate(None, rounds=4, path=tmp_path / "half.ckpt")


def test_a_liar_and_a_robust_rule_meet_the_decoded_change():
    honest = federate(Int8(), aggregator=CoordinateMedian())
    lied = federate(
        Int8(), aggregator=CoordinateMedian(), attack=Attack(clients=[0], kind="sign_flip", scale=50.0)
    )
    assert (weights(lied) - weights(honest)).norm() < 0.5 * weights(honest).norm()


LIKE = {"w": torch.zeros(3, 2), "b": torch.zeros(3)}


def good(codec):
    change = {name: tensor(t.shape) for name, t in LIKE.items()}
    return encoded(codec, {"delta": change}, {})[0]


def broken(codec, change):
    groups = copy.deepcopy(good(codec))
    change(groups)
    reply = Reply(tensors=groups, client=1)
    (found,) = decoding(lambda verb, messages: iter([reply]), codec, lambda client: LIKE)("train", {1: None})
    return found.error


@pytest.mark.parametrize(
    ("codec", "change", "error"),
    [
        (Int8(), lambda g: g["delta.values"].pop("w"), "its delta w has the parts ['scales'], not ['scales', 'values']"),
        (Int8(), lambda g: g.pop("delta.scales"), "its delta w has the parts ['values']"),
        (Int8(), lambda g: g["delta.values"].update(x=torch.ones(1)), "its delta does not have the server's names"),
        (Int8(), lambda g: g["delta.values"].update(w=torch.zeros(3, 2)), "its delta w (values) is (3, 2) of torch.float32"),
        (Int8(), lambda g: g["delta.scales"].update(w=torch.tensor([1.0, torch.inf, 1.0])), "its delta w (scales) is not finite"),
        (TopK(0.5), lambda g: g["delta.places"]["w"].fill_(6), "its delta w: places are from 0 to 5, and not 6"),
        (TopK(0.5), lambda g: g["delta.places"]["w"].fill_(-1), "its delta w: places are from 0 to 5"),
        (Deflate(Int8()), lambda g: g["delta.values"].update(w=torch.zeros(9, dtype=torch.uint8)), "its delta w: values is not compressed"),
        (
            Deflate(Int8()),
            lambda g: g["delta.values"].update(w=torch.tensor(list(zlib.compress(bytes(10**7))), dtype=torch.uint8)),
            "its delta w: values holds more or less than 6 bytes",
        ),
    ],
)  # fmt: skip
def test_a_reply_of_another_form_is_an_error_of_its_client(codec, change, error):
    assert broken(codec, lambda groups: None) == ""
    assert error in broken(codec, change)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0.0), "share=0.0 must be in"),
        (lambda: TopK(1.5), "share=1.5 must be"),
        (lambda: LowRank(0), "rank=0 must be 1 or more"),
        (lambda: Half("int8"), "dtype='int8' must be"),
        (lambda: Deflate(Int8(), level=0), "level=0 must be"),
        (lambda: Deflate(3), "Deflate"),
        (
            lambda: Federation(nn_module(), FedMD(), codec=Int8()),
            r"codec=Int8.*: FedMD sends no changes of weights",
        ),
        (
            lambda: Federation(nn_module(), codec="int8"),
            "codec='int8' must be an object of Codec, such as Int8",
        ),
    ],
)
def test_mistakes_are_one_sentence(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def nn_module():
    return Classifier(nn.Linear(4, 3), num_classes=3)


class Signs(Codec):
    """A user's own: one bit of a number, as a byte, and the mean of the absolute values (SignSGD with a scale)."""

    def __init__(self):
        super().__init__(error_feedback=True)

    def form(self, like):
        return {"signs": (tuple(like.shape), torch.int8), "scale": ((), torch.float32)}

    def encode(self, tensor, start=None):
        return {"signs": tensor.sign().to(torch.int8), "scale": tensor.abs().mean().float()}

    def decode(self, parts, like):
        return (parts["signs"] * parts["scale"]).to(like.dtype)


def test_a_codec_of_a_users_own():
    federation = federate(Signs(), rounds=4)
    start = weights(federate(None, rounds=0))
    plain = weights(federate(None, rounds=4)) - start
    mine = weights(federation) - start
    assert torch.cosine_similarity(plain, mine, dim=0) > 0.5


@pytest.mark.parametrize("codec", [LowRank(4, error_feedback=False), Half()], ids=repr)
def test_a_robust_rule_gets_each_weight_in_its_place(codec):
    """Parts that differ from weight to weight come in an order of their own."""
    plain = federate(None, rounds=1, aggregator=CoordinateMedian())
    coded = federate(codec, rounds=1, aggregator=CoordinateMedian())
    start = dict(federate(None, rounds=0).model.named_parameters())
    for name, now in coded.model.named_parameters():
        there = dict(plain.model.named_parameters())[name] - start[name]
        assert torch.cosine_similarity((now - start[name]).flatten(), there.flatten(), 0) > 0.6, name


@pytest.mark.parametrize("codec", [Half(), Int8(), TopK(0.5), LowRank(1), Deflate(Int8())], ids=repr)
def test_complex_weights_keep_both_parts(codec):
    like = {"w": torch.randn(6, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))}
    kept, arrived = {}, 0
    for _ in range(60):
        sent, kept = encoded(codec, {"delta": like}, kept)
        arrived = arrived + decoded(codec, sent, like)["delta"]["w"]
    assert (arrived / 60 - like["w"]).norm() < 0.1 * like["w"].norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rests_of_small_types_add_up(dtype):
    change = {"w": tensor((40, 25), dtype=dtype) * 0.01}
    kept, arrived = {}, torch.zeros(40, 25, dtype=torch.float64)
    for _ in range(100):
        sent, kept = encoded(TopK(0.05), {"delta": change}, kept)
        arrived += decoded(TopK(0.05), sent, change)["delta"]["w"].double()
    total = arrived + kept["rest/delta/w"].double()
    assert (total - 100 * change["w"].double()).norm() < 1e-5 * total.norm()


class Breaks(Int8):
    """Fails at one encoding of a run: in one client's second round."""

    def __init__(self, at):
        super().__init__()
        self.at, self.count = at, 0

    def encode(self, tensor, start=None):
        self.count += 1
        if self.count == self.at:
            raise RuntimeError("no memory is left")
        return super().encode(tensor, start)


def state_of(federation):
    return federation.engine.state_dict()["clients"]


def same_states(one, other, but=()):
    for client in one.keys() - set(but):
        for group, tensors in one[client].items():
            assert all(torch.allclose(t, other[client][group][n], atol=1e-6) for n, t in tensors.items()), (
                client,
                group,
            )


@pytest.mark.parametrize("engine", [Loop, Stacked])
def test_a_client_that_fails_while_it_encodes_keeps_its_former_state(engine):
    tensors = 8 * 8  # of a round: of each client four, and four of its control variate
    whole = federate(Int8(), engine(), SCAFFOLD, rounds=1)
    broken = federate(Breaks(tensors + 10), engine(), SCAFFOLD, rounds=2)
    good = federate(Int8(), engine(), SCAFFOLD, rounds=2)
    failed = [record.client for record in broken.records if record.error]
    if engine is Loop:
        assert failed == [1]
        same_states({1: state_of(whole)[1]}, {1: state_of(broken)[1]})
        same_states(state_of(good), state_of(broken), but=failed)
    else:  # the stack has failed, and each works by itself, from the state before it
        assert failed == []
        same_states({c: {"c": g["c"]} for c, g in state_of(good).items()}, state_of(broken))


def test_a_reply_that_is_refused_as_it_is_decoded_is_undone(monkeypatch):
    from lkd.federated.server import decoding as module

    whole = federate(Int8(), algorithm=SCAFFOLD, rounds=1)
    real, calls = module.decoded, []

    def lies(codec, groups, like):
        calls.append(None)
        if len(calls) == 8 + 3:
            raise ValueError("its delta is of another form")
        return real(codec, groups, like)

    monkeypatch.setattr(module, "decoded", lies)
    again = federate(Int8(), algorithm=SCAFFOLD, rounds=2)
    assert [record.client for record in again.records if record.error] == [2]
    same_states({2: state_of(whole)[2]}, {2: state_of(again)[2]})


def test_a_small_reply_does_not_become_many_models():
    groups = good(Int8())
    many = {f"g{i}.{part}": groups[f"delta.{part}"] for i in range(9) for part in ("values", "scales")}
    with pytest.raises(ValueError, match="its 9 groups are more than 8"):
        decoded(Int8(), many, LIKE)
