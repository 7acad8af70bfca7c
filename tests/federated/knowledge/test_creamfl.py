"""CreamFL: scores and rounds by hand, degenerate cases, what travels, paired and shuffled public data, what is refused."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lkd.federated import CreamFL, Federation, Local, LocalTraining
from lkd.federated.knowledge.common.representations import cross_modal_scores, info_nce, joined, pair_loss
from lkd.federated.protocol.seeds import derive

from ...modules.modalities import Public, client, rows
from ..quadratic import loader, trainer
from .public import NUMBER, model, with_public
from .public import federate as federate_vectors
from .two_models import assert_same_bits
from .wearers import (
    OWNED,
    SIZE,
    assert_local,
    assert_own,
    descend,
    embed,
    federate,
    modules,
    own,
    task_loss,
    wearers,
)

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
N = 10


def directions(*shape, seed=0, dtype=torch.float64):
    return F.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1
    )


def log_share(z, bank, place, temperature):
    """log softmax_j(z . g_j / T) at one place."""
    exps = [math.exp(float(z @ g) / temperature) for g in bank]
    return math.log(exps[place] / sum(exps))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_scores_in_plain_loops(temperature):
    own, others = directions(7, 4), [directions(7, 4, seed=1), directions(7, 4, seed=2)]
    expected = [sum(log_share(own[i], g, i, temperature) for g in others) / 2 for i in range(7)]
    found = cross_modal_scores(own, others, temperature)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)
    assert cross_modal_scores(own, []).tolist() == [0.0] * 7


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 100])
def test_scores_do_not_depend_on_the_chunk(chunk):
    own, others = directions(7, 4), [directions(7, 4, seed=1)]
    whole = (own @ others[0].T).log_softmax(1).diagonal()
    torch.testing.assert_close(cross_modal_scores(own, others, chunk=chunk), whole, rtol=1e-12, atol=0)


def test_memory_of_scores_is_that_of_a_chunk():
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        cross_modal_scores(directions(500, 4), [directions(500, 4, seed=1)], chunk=10)
    assert largest == 10 * 500


def test_the_ensemble_in_plain_loops():
    told, bank = directions(3, 6, 4), {m: directions(6, 4, seed=i + 1) for i, m in enumerate("abc")}
    found = CreamFL(score_temperature=0.4).ensemble("b", told, bank)
    for i in range(6):
        scores = [sum(log_share(told[k, i], bank[m], i, 0.4) for m in "ac") / 2 for k in range(3)]
        exps = [math.exp(s) for s in scores]
        expected = sum(e / sum(exps) * told[k, i] for k, e in enumerate(exps))
        torch.testing.assert_close(found[i], expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(CreamFL().ensemble("a", told[:1], bank), told[0])  # one client is all there is
    mean = CreamFL().ensemble("a", told, {"a": bank["a"]})  # without another modality all weigh the same
    torch.testing.assert_close(mean, told.mean(0))


def test_who_finds_the_sample_in_the_other_modality_weighs_more():
    """Client 0 speaks the language of the other modality, client 1 has its samples mixed up."""
    bank = directions(8, 16)
    told = torch.stack([bank, bank.roll(1, 0)])
    scores = torch.stack([cross_modal_scores(z, [bank], 0.1) for z in told])
    assert (scores.softmax(0)[0] > 0.99).all()
    torch.testing.assert_close(joined(told, scores), bank, rtol=0, atol=0.05)


def test_losses_in_plain_loops():
    z, bank, places = directions(4, 3), directions(9, 3, seed=1), torch.tensor([5, 0, 8, 2])
    expected = -sum(log_share(z[i], bank, places[i], 0.5) for i in range(4)) / 4
    assert float(info_nce(z, bank, places, 0.5)) == pytest.approx(expected, rel=1e-10)
    both = directions(4, 3, seed=2)
    pairs = [-sum(log_share(a[i], b, i, 0.5) for i in range(4)) / 4 for a, b in ((z, both), (both, z))]
    assert float(pair_loss([z, both], 0.5)) == pytest.approx(sum(pairs) / 2, rel=1e-10)


def test_gradients():
    z, bank = directions(4, 3).requires_grad_(), directions(9, 3, seed=1).requires_grad_()
    places = torch.tensor([5, 0, 8, 2])
    info_nce(z, bank, places).backward()
    assert bank.grad is None
    assert torch.autograd.gradcheck(lambda x: info_nce(x, bank, places), z)
    both = directions(4, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: pair_loss([a, b]), (z, both))


def test_a_sample_without_a_modality_is_in_no_pair():
    """It neither pulls nor is pushed: the loss is that of the others, and its gradient zero."""
    z, both = directions(4, 3), directions(4, 3, seed=2)
    both[0] = 0
    z.requires_grad_()
    loss = pair_loss([z, both])
    torch.testing.assert_close(loss, pair_loss([z[1:], both[1:]]))
    loss.backward()
    assert not z.grad[0].any() and z.grad[1:].any()
    nobody = pair_loss([z.detach().requires_grad_(), torch.zeros(4, 3).double()])
    assert float(nobody) == 0


def say(net, x):
    """Unit vectors of all samples."""
    z, _ = embed(net, x)
    return {m: own / own.square().sum(1, keepdim=True).sqrt() for m, own in z.items()}


def orders(seed, batch):
    """Places of the public samples in the steps of one pass."""
    return [
        torch.from_numpy(part)
        for part in np.array_split(np.random.default_rng(seed).permutation(N), N // batch)
    ]


def cross(z, bank, places):
    """Mean of -log softmax_j(z_i . g_j / .5) over the batch."""
    return -sum(torch.log_softmax(bank @ z[i] / 0.5, 0)[p] for i, p in enumerate(places)) / len(z)


def by_hand(rounds, clients, inter=0.5, intra=0.5, kd=0.3, pairs=1.0):
    public, batch = Public(N), 5
    nets = [m.network for m in modules()]
    server = copy.deepcopy(nets[0])
    for r in range(rounds):
        for places in orders(derive(0, r, 3), batch):
            z = say(server, rows(public.x, places))
            found = [cross(z[a], z[b], range(batch)) for a, b in (("acc", "gyro"), ("gyro", "acc"))]
            descend(server, pairs * sum(found) / 2)
        with torch.no_grad():
            bank = say(server, public.x)
        told = []
        for net, one in zip(nets, clients, strict=True):
            with torch.no_grad():
                former = say(net, public.x)
            for x, y in one.batches_of_round(r):
                descend(net, task_loss(net, *embed(net, x), y))
            for places in orders(derive(0, r, one.id), batch):
                each = []
                for m, z in say(net, rows(public.x, places)).items():
                    other = "gyro" if m == "acc" else "acc"
                    total = inter * cross(z, bank[other], places)
                    for i, p in enumerate(places):
                        near, far = (torch.exp(z[i] @ g[m][p] / 0.5) for g in (bank, former))
                        total = total - intra * torch.log(near / (near + far)) / batch
                    each.append(total)
                descend(net, sum(each) / len(each))
            with torch.no_grad():
                told.append(say(net, public.x))
        targets = {}
        for m, other in (("acc", "gyro"), ("gyro", "acc")):
            having = [z[m] for z in told if m in z]
            scores = [[math.exp(log_share(z[i], bank[other], i, 1.0)) for z in having] for i in range(N)]
            sums = [
                sum(s * z[i] for s, z in zip(scores[i], having, strict=True)) / sum(scores[i])
                for i in range(N)
            ]
            targets[m] = torch.stack(sums)
        for places in orders(derive(0, r, 4), batch):
            z = say(server, rows(public.x, places))
            descend(server, sum(kd * ((z[m] - targets[m][places]) ** 2).sum() / (batch * SIZE) for m in z))
    return nets, server


@pytest.mark.parametrize(
    "weights",
    [{}, {"inter": 2.0, "intra": 0.0}, {"inter": 0.0, "intra": 1.0, "kd": 5.0, "pairs": 0.0}],
    ids=["all", "inter", "intra"],
)
def test_rounds_by_hand(weights):
    weights = {"inter": 0.5, "intra": 0.5, "kd": 0.3, "pairs": 1.0, **weights}
    federation = federate(CreamFL(**weights, batch_size=5), rounds=2)
    nets, server = by_hand(2, wearers(), **weights)
    assert_own(federation, nets, **TOLERANCE)
    found = dict(federation.model.network.named_parameters())
    start = dict(modules()[0].network.named_parameters())
    for name, value in server.named_parameters():
        torch.testing.assert_close(found[name].detach(), value.detach(), msg=name, **TOLERANCE)
        learns = name.startswith(("encoders", "projections"))
        assert learns != torch.equal(found[name], start[name]), name


@pytest.mark.parametrize("count", [1, 3])
def test_without_weights_clients_train_alone_bit_for_bit(count):
    def some():
        return wearers(public=Public())[:count]

    one = federate(CreamFL(inter=0.0, intra=0.0), clients=some())
    context = federate(Local(), clients=some())
    assert_local(one, context)
    start = modules()[0].state_dict()
    assert not torch.equal(
        one.model.state_dict()["network.projections.acc.weight"], start["network.projections.acc.weight"]
    )
    quiet = federate(CreamFL(inter=0.0, intra=0.0, kd=0.0, pairs=0.0), clients=some())
    assert all(torch.equal(v, start[n]) for n, v in quiet.model.state_dict().items() if n in start)


def test_where_there_is_one_modality_there_is_no_contrast_between_any():
    def go(**weights):
        one = wearers(public=Public(), owned=(("acc",),) * 3)
        return federate(CreamFL(**weights), clients=one, made=modules((("acc",),)))

    assert_same_bits(go(inter=0.0), go(inter=5.0))
    assert_local(go(inter=5.0, intra=0.0), go(inter=0.0, intra=0.0))


def test_a_modality_of_which_nobody_tells_is_not_distilled():
    """All clients have acc alone; without the server's own contrast its gyro stays as it was."""
    clients = wearers(public=Public(), owned=(("acc",),) * 3)
    federation = federate(
        CreamFL(pairs=0.0), clients=clients, made=modules(OWNED[:2]), client_models=[1, 1, 1]
    )
    start, now = modules(OWNED[:2])[0].state_dict(), federation.model.state_dict()
    for name in ("encoders", "projections"):
        moved = {m: any(not torch.equal(now[n], start[n]) for n in start if n.startswith(f"network.{name}.{m}"))
                 for m in ("acc", "gyro")}  # fmt: skip
        assert moved == {"acc": True, "gyro": False}


def test_representations_of_the_own_modalities_go_up_and_all_come_down():
    table = N * SIZE * 4
    federation = federate(CreamFL())
    assert federation.bytes_up == 3 * (3 * NUMBER + (2 + 1 + 1) * table)
    assert federation.bytes_down == 3 * 3 * (3 * NUMBER + 2 * table)
    federation = federate(CreamFL(samples=6, modalities=["gyro"]))
    table = 6 * SIZE * 4
    assert federation.bytes_up == 3 * (3 * NUMBER + (1 + 0 + 1) * table)
    assert federation.bytes_down == 3 * 3 * (3 * NUMBER + table)


def test_same_seed_same_bits_in_any_order():
    def go(order=1):
        made = modules(modality_dropout=0.3)
        return federate(
            CreamFL(samples=6, batch_size=3), clients=wearers(public=Public())[::order], made=made
        )

    one = go()
    assert_same_bits(one, go())
    assert_same_bits(one, go(-1))


def test_in_bf16_clients_become_nearly_the_same():
    one, two = (federate(CreamFL(), trainer_args={"precision": p}) for p in ("32-true", "bf16-mixed"))
    for i in range(3):
        a, b = own(one, i), own(two, i)
        assert all(a[n].dtype == b[n].dtype for n in a)
        assert all(torch.allclose(a[n].float(), b[n].float(), rtol=0.05, atol=0.02) for n in a)


def test_resumed_equals_uninterrupted(tmp_path):
    def go(epochs, path=None):
        made = modules(modality_dropout=0.3)
        algorithm = CreamFL(samples=6, batch_size=3)
        federation = Federation(made[0], algorithm, LocalTraining(epochs=1), other_models=made[1:])
        runner = trainer(epochs)
        runner.fit(federation, loader(wearers(public=Public())), ckpt_path=path)
        runner.save_checkpoint(tmp_path / "last.ckpt")
        return federation

    whole = go(4)
    go(2)
    assert_same_bits(whole, go(4, tmp_path / "last.ckpt"))


class Shuffled(Public):
    """The gyro is of other samples than the accelerometer."""

    def __init__(self, count):
        super().__init__(count)
        self.x["gyro"] = self.x["gyro"][torch.randperm(count, generator=torch.Generator().manual_seed(1))]


def test_clients_of_different_modalities_find_each_other_if_public_samples_are_pairs():
    """Client 1 has the accelerometer, client 2 the gyro: only what public pairs teach lets one find the other's samples."""
    test, found = Public(30), {}
    for name, public in (("paired", Public(60)), ("shuffled", Shuffled(60))):
        algorithm = CreamFL(inter=1.0, batch_size=15, epochs=2)
        federation = federate(algorithm, rounds=15, clients=wearers(public=public))
        said = {}
        for i, made in ((1, client(("acc",))), (2, client(("gyro",)))):
            made.network.load_state_dict(own(federation, i), strict=False)
            with torch.no_grad():
                said |= say(made.network, test.x)
        with torch.no_grad():
            server = say(federation.model.network, test.x)
        found[name] = [float(info_nce(z["acc"], z["gyro"], torch.arange(30))) for z in (said, server)]
    chance = math.log(30)
    assert all(loss < chance - 0.5 for loss in found["paired"]), found
    assert all(loss > chance - 0.1 for loss in found["shuffled"]), found


def lacking(m, several=True):
    public = Public()
    if several:
        public.x["present"][m][3:5] = False
    else:
        del public.x[m], public.x["present"][m]
    return public


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CreamFL(inter=-1.0), "inter=-1.0 must be 0 or more"),
        (lambda: CreamFL(kd=float("nan")), "kd=nan must be 0 or more"),
        (lambda: CreamFL(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: CreamFL(score_temperature=-1.0), "score_temperature=-1.0 must be above 0"),
        (lambda: CreamFL(samples=0), "samples=0 must be 1 or more"),
        (lambda: CreamFL(epochs=0), "epochs=0 must be 1 or more"),
        (lambda: CreamFL(layer="network.embedding"), "must name a layer for each modality"),
        (lambda: federate(CreamFL(), clients=wearers()), "exchanges what clients say of public data, and there are none"),
        (
            lambda: federate(CreamFL(), clients=wearers(public=lacking("gyro"))),
            "public: 2 of 10 samples of a batch have no 'gyro'.*let the public data have all that clients have",
        ),
        (
            lambda: federate(CreamFL(pairs=0.0, modalities=["gyro"]), clients=wearers(public=lacking("gyro"))),
            "public: 2 of 10 samples of a batch have no 'gyro'",
        ),
        (
            lambda: federate(CreamFL(), made=[client(("acc", "gyro"))], client_models=[0, 0, 0],
                             clients=wearers(public=lacking("gyro", several=False))),
            "public: 10 of 10 samples of a batch have no 'gyro'",
        ),
        (lambda: federate(CreamFL(modalities=["pulse"])), "no client has 'pulse'; .* encoders for acc, gyro"),
        (
            lambda: federate(CreamFL(), made=[*modules()[:2], client(("gyro",), embedding=5)]),
            r"gives different embedding sizes, 8 at model, other_models\[0\] \(client 0, 1\) and 5 at other_models\[1\] \(client 2\)",
        ),
        (
            lambda: federate(CreamFL(), made=modules()[::-1], client_models=[2, 1, 0]),
            r"server's model is the federation's `model`, which has no encoder for 'acc', as other_models\[0\] has",
        ),
        (
            lambda: federate_vectors(CreamFL(), module=model(), clients=with_public()),
            "Classifier does not say which modalities it has: use a MultimodalClient",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
