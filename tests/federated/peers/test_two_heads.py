"""Two heads: the loss by hand, rounds by hand, what is frozen, what travels, who stops, what is refused."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn

from lkd.federated import Federation, Local, LocalTraining, MetaStopping, TwoHeads
from lkd.federated.peers.peer_heads import neighbors_loss
from lkd.federated.topology import Complete, Ring, Star, TimeVarying, Topology
from lkd.modules import Classifier, MultiHeadClassifier

from ..quadratic import Cohorts, loader, run, trainer
from ..test_rounds import samples
from .private import Private, batches, private, sgd, two_heads_module

MEASURES = ["ce", "kl", "js", "triangular", "sed", "msed"]
HEAD = "network.heads.1."


def softmax(row, temperature):
    exps = [math.exp(v / temperature) for v in row]
    return [e / sum(exps) for e in exps]


def entropy(p):
    return -sum(v * math.log(v) for v in p)


def unlike(measure, p, *qs):
    """The measures from their definitions, for one sample; p is the student."""
    if measure == "msed":
        everyone = [p, *qs]
        mean = [sum(column) / len(everyone) for column in zip(*everyone, strict=True)]
        product = math.prod(math.exp(entropy(one)) ** (1 / len(everyone)) for one in everyone)
        return (math.exp(entropy(mean)) / product - 1) / (len(everyone) - 1)
    (q,) = qs
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    kl = {
        name: sum(a * math.log(a / b) for a, b in zip(one, other, strict=True))
        for name, one, other in (("qp", q, p), ("pm", p, m), ("qm", q, m))
    }
    match measure:
        case "ce":
            return -sum(b * math.log(a) for a, b in zip(p, q, strict=True))
        case "kl":
            return kl["qp"]
        case "js":
            return (kl["pm"] + kl["qm"]) / 2
        case "triangular":
            return 1 - sum(2 * a * b / (a + b) for a, b in zip(p, q, strict=True))
        case "sed":
            return math.exp(entropy(m)) / math.sqrt(math.exp(entropy(p)) * math.exp(entropy(q))) - 1


def loss_by_hand(student, teachers, measure, strategy, temperature):
    """`student` a list of rows, `teachers` a list of such lists."""
    total = 0.0
    for b, row in enumerate(student):
        p, rows = softmax(row, temperature), [teacher[b] for teacher in teachers]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        if measure == "msed":
            total += unlike(measure, p, *(softmax(r, temperature) for r in rows))
        elif strategy == "holistic":
            total += unlike(measure, p, softmax(mean, temperature))
        else:
            total += sum(unlike(measure, p, softmax(r, temperature)) for r in rows)
    return temperature**2 * total / len(student)


def logits(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("strategy", ["holistic", "pairwise"])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_loss_is_the_papers(measure, strategy):
    student, teachers = logits(4, 3), logits(4, 3, 3, seed=1)
    found = neighbors_loss(student, teachers, measure, strategy, 2.0)
    expected = loss_by_hand(student.tolist(), teachers.transpose(0, 1).tolist(), measure, strategy, 2.0)
    assert float(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("strategy", ["holistic", "pairwise"])
@pytest.mark.parametrize("measure", MEASURES)
def test_gradients_reach_the_student_alone(measure, strategy):
    student, teachers = logits(3, 4).requires_grad_(), logits(3, 2, 4, seed=1).requires_grad_()

    def loss(z):
        return neighbors_loss(z, teachers.detach(), measure, strategy, 1.5)

    assert torch.autograd.gradcheck(loss, student)
    neighbors_loss(student, teachers, measure, strategy).backward()
    assert teachers.grad is None and student.grad.abs().sum() > 0


def test_holistic_is_the_mean_of_logits_not_of_probabilities():
    teachers = torch.tensor([[[8.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    student = torch.tensor([[4.0, 0.5, 0.0]])
    assert float(neighbors_loss(student, teachers, "kl")) == pytest.approx(0, abs=1e-6)
    assert float(neighbors_loss(teachers.softmax(2).mean(1).log(), teachers, "kl")) > 0.05


@pytest.mark.parametrize("strategy", ["holistic", "pairwise"])
@pytest.mark.parametrize("measure", MEASURES[1:])
def test_teachers_that_agree_with_the_student_teach_nothing(measure, strategy):
    same = logits(4, 3)
    assert float(neighbors_loss(same, same[:, None].repeat(1, 3, 1), measure, strategy)) == pytest.approx(
        0, abs=1e-12
    )


class Given(Topology):
    """A graph as it is given."""

    def __init__(self, edges):
        self.given = edges

    def edges(self, nodes, round=0):
        return self.given


EDGES = [[1], [0, 2], [0]]  # one way from 1 to 2 and from 2 to 0


def federate(algorithm, rounds, module=None, clients=None, size=None, **kwargs):
    module = module or two_heads_module(norm=True)
    return run(algorithm, rounds, clients or private(), LocalTraining(epochs=1), module, size, **kwargs)


def models(federation, clients=None):
    """Every client's module, in eval mode, by its id."""
    found = {}
    for i, kept in federation.engine.host.store.state_dict().items():
        net = copy.deepcopy(federation.model)
        missing, unexpected = net.load_state_dict(kept["personal"], strict=False)
        assert not unexpected and all("_accuracy" in n or "_heads" in n for n in missing)
        found[i] = net.eval()
    return found


def second(net, x):
    """The second head's logits, by the network's parts."""
    return net.network.heads[1](net.network.embedding(net.network.backbone(x)))


def mean_loss(net, x, y):
    return float(F.cross_entropy(second(net, x).detach().double(), y))


def by_hand(
    nets, first, rounds, edges=EDGES, alpha=0.3, measure="js", strategy="holistic", temperature=2.0, **kwargs
):
    """The second phase in plain torch, with as many passes over the networks as it takes; returns the losses, too."""
    here, rule, given = kwargs.get("here"), kwargs.get("rule"), edges
    clients = private()
    everyone = range(len(clients))
    held, begun, stopped, history = {k: {} for k in everyone}, set(), {}, []
    graph = given if callable(given) else lambda r: given
    for r in range(first, first + rounds):
        edges = graph(r)
        present = list(everyone) if here is None else here[r]
        for k in set(present) - begun:
            nets[k].network.heads[1].load_state_dict(nets[k].network.heads[0].state_dict())
            begun.add(k)
        for k in present:
            held[k] |= {j: copy.deepcopy(nets[j]) for j in edges[k] if j in present}
        own = {k: mean_loss(nets[k], *clients[k].validation()) for k in present if k not in stopped}
        meta = {}
        for j in own:
            heard = [mean_loss(nets[j], *clients[k].validation()) for k in present if j in edges[k]]
            meta[j] = sum(heard) / len(heard) if heard else math.nan
        history.append((own, meta))
        for k in own:
            if rule is not None and rule([row for row in history if k in row[0]], k):
                stopped[k] = r
        before = copy.deepcopy(nets)
        for k in present:
            if k in stopped:
                continue
            head = nets[k].network.heads[1]
            decay = (
                {"params": [head.weight], "weight_decay": 0.1},
                {"params": [head.bias], "weight_decay": 0.0},
            )
            optimizer = torch.optim.SGD(decay, lr=0.2, momentum=0.9)
            for x, y in batches(clients[k], r):
                with torch.no_grad():
                    said = [second(held[k][j], x) for j in edges[k] if j in held[k]] + [second(before[k], x)]
                    seen = nets[k].network.embedding(nets[k].network.backbone(x))
                z, rows = head(seen), torch.arange(len(y))
                mean = torch.stack(said).mean(0)
                targets = [mean] if strategy == "holistic" else said
                loss = -alpha * z.log_softmax(1)[rows, y].mean()
                p = (z / temperature).softmax(1)
                for target in targets:
                    q = (target / temperature).softmax(1)
                    m = (p + q) / 2
                    if measure == "js":
                        d = (p * (p / m).log() + q * (q / m).log()) / 2
                    else:
                        d = q * (q / p).log()
                    loss = loss + (1 - alpha) * temperature**2 * d.sum() / len(y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return stopped, history


def assert_near(federation, nets):
    for k, net in models(federation).items():
        for name, value in net.network.state_dict().items():
            torch.testing.assert_close(
                value, nets[k].network.state_dict()[name], rtol=1e-4, atol=1e-6, msg=name
            )


@pytest.mark.parametrize(("measure", "strategy"), [("js", "holistic"), ("kl", "pairwise")])
def test_rounds_by_hand(measure, strategy):
    algorithm = TwoHeads(Given(EDGES), 2, 0.3, measure, strategy, 2.0)
    federation = federate(algorithm, 5)
    nets = models(federate(Local(), 2))
    by_hand(nets, 2, 3, measure=measure, strategy=strategy)
    assert_near(federation, nets)
    moved = nets[0].network.heads[1].weight - nets[0].network.heads[0].weight
    assert moved.abs().max() > 0.01


def test_the_first_phase_is_local_training_and_all_but_the_second_head_stays_as_it_was():
    warm, alone = federate(TwoHeads(Complete(), 3), 3), federate(Local(), 3)
    later = federate(TwoHeads(Complete(), 3), 6)
    for i in range(3):
        a, b, c = (f.engine.host.store.get(i)["personal"] for f in (warm, alone, later))
        assert a.keys() == b.keys() == c.keys()
        assert "network.backbone.1.running_var" in a and "network.backbone.1.num_batches_tracked" in a
        for name in a:
            assert torch.equal(a[name], b[name]), name
            assert torch.equal(a[name], c[name]) != name.startswith(HEAD), name
        assert torch.equal(b[HEAD + "weight"], alone.model.network.heads[1].weight)  # not even decayed


def test_labels_alone_train_the_second_head_as_a_linear_probe():
    """alpha = 1 needs no neighbor: on any graph the same, and the gradient is the labels'."""
    one, other = (federate(TwoHeads(graph, 1, alpha=1.0), 2) for graph in (Complete(), Given(EDGES)))
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"][HEAD + "weight"] for f in (one, other))
        assert torch.equal(a, b)
    nets = models(federate(Local(), 1))
    by_hand(nets, 1, 1, alpha=1.0)
    assert_near(one, nets)


def test_a_client_alone_that_learns_from_itself_starts_with_nothing_to_learn():
    """With alpha 0 and itself as the only teacher, D and its gradient are 0: without weight decay nothing moves."""
    plain = two_heads_module(optimizer=lambda params: torch.optim.SGD(params, lr=0.2))
    for strategy in ("holistic", "pairwise"):
        federation = federate(TwoHeads(Ring(), 1, alpha=0.0, strategy=strategy), 4, plain, private()[:1])
        kept = federation.engine.host.store.get(0)["personal"]
        for part in ("weight", "bias"):
            torch.testing.assert_close(
                kept[f"network.heads.0.{part}"], kept[HEAD + part], atol=1e-6, rtol=1e-5
            )


def test_clients_that_come_and_go_are_taught_by_what_they_hold():
    here = list(Cohorts(private(), 2, 0, per_epoch=8))
    algorithm = TwoHeads(Given(EDGES), 3, 0.3, "js", "holistic", 2.0)
    federation = federate(algorithm, 8, size=2)
    nets = models(federate(Local(), 3, size=2))
    for i in set(range(3)) - nets.keys():
        nets[i] = copy.deepcopy(federation.model).eval()
    by_hand(nets, 3, 5, here=here)
    assert len({tuple(ids) for ids in here[3:]}) > 1
    assert_near(federation, nets)


def test_a_graph_that_changes_is_the_rounds_own():
    graph = TimeVarying([Star(), Star(center=2)])
    federation = federate(TwoHeads(graph, 1, 0.3, "js", "holistic", 2.0), 6)
    nets = models(federate(Local(), 1))
    by_hand(nets, 1, 5, lambda r: graph.edges(3, r))
    assert graph.edges(3, 1) != graph.edges(3, 2)
    assert_near(federation, nets)


def test_half_precision_trains_the_same():
    full = federate(TwoHeads(Complete(), 1), 3)
    half = federate(TwoHeads(Complete(), 1), 3, trainer_args={"precision": "bf16-mixed"})
    for i in range(3):
        a, b = (f.engine.host.store.get(i)["personal"][HEAD + "weight"] for f in (full, half))
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.05)


BACKBONE, EMBEDDING, LAST = (3 * 5 + 5 + 2 * 5 + 2 * 5) * 4, (5 * 4 + 4) * 4, (4 * 2 + 2) * 4


def bytes_of(rounds, **kwargs):
    federation = federate(TwoHeads(Given(EDGES), 1, **kwargs), rounds)
    return federation.bytes_down, federation.bytes_up


def test_what_travels_is_the_backbone_once_and_then_the_second_head():
    whole, edges, clients = BACKBONE + EMBEDDING + LAST, 4, 3
    assert bytes_of(1) == (clients * 16, clients * 8)  # round and steps
    verbs = clients * (16 + 8 + 24) + 4 * edges  # share; receive; train, which names the teachers
    first = (verbs + edges * (whole + 8), clients * 8 + 3 * whole)  # whose it is
    later = (verbs + edges * (LAST + 8), clients * 8 + 3 * LAST)
    for rounds in (1, 2, 3):
        found = bytes_of(1 + rounds)
        assert found[0] == clients * 16 + first[0] + (rounds - 1) * later[0]
        assert found[1] == clients * 8 + first[1] + (rounds - 1) * later[1]


def test_who_comes_late_is_sent_backbones_and_the_others_are_not():
    """Four clients, three a round: an account of who holds which edition."""
    clients = [Private(i, 8, population=4) for i in range(4)]
    here = list(Cohorts(clients, 3, 1, per_epoch=6))
    whole, down, up, mixed = BACKBONE + EMBEDDING + LAST, 0, 0, False
    held, edition = {}, dict.fromkeys(range(4), 0)
    for present in here:
        pairs = [(k, j) for k in present for j in present if k != j and held.get((k, j), -1) < edition[j]]
        new = [pair for pair in pairs if pair not in held]
        known = [pair for pair in pairs if pair in held]
        mixed |= bool({j for _, j in new} & {j for _, j in known})
        up += 8 * 3 + sum(whole if j in {i for _, i in new} else LAST for j in {j for _, j in pairs})
        down += 3 * (16 + 8 + 24) + (whole + 8) * len(new) + (LAST + 8) * len(known)
        held |= {(k, j): edition[j] for k, j in pairs}
        down += 4 * sum(k in present for k, _ in held)  # numbers of all teachers, present or not
        edition |= {k: edition[k] + 1 for k in present}
    assert mixed
    federation = federate(TwoHeads(Complete(), 0), 6, clients=clients, size=3, seed=1)
    assert (federation.bytes_down, federation.bytes_up) == (down, up)


def test_the_losses_of_the_stopping_rule_travel_along_the_edges():
    (down, up), (plain_down, plain_up) = bytes_of(3, stopping=MetaStopping()), bytes_of(3)
    losses = 3 + 4  # of each client itself, and of the neighbors that it learns from
    assert (down - plain_down, up - plain_up) == (2 * 8 * losses, 2 * 8 * losses)


def test_who_stops_serves_what_it_has_and_costs_no_more():
    federation = federate(TwoHeads(Given(EDGES), 1, stopping=MetaStopping(most=2)), 3)
    longer = federate(TwoHeads(Given(EDGES), 1, stopping=MetaStopping(most=2)), 6)
    for i in range(3):
        a, b = (f.engine.host.store.get(i) for f in (federation, longer))
        assert all(torch.equal(t, b["personal"][n]) for n, t in a["personal"].items())
        neighbors = {j: longer.engine.host.store.get(j)["personal"] for j in EDGES[i]}
        for j, theirs in neighbors.items():
            assert torch.equal(b["memory"][f"{j}/{HEAD}weight"], theirs[HEAD + "weight"])
    assert [r.steps for r in longer.records] == [0, 0, 0]
    assert all(r.metrics == {"train/stopped": 1.0} for r in longer.records)
    once, twice = (
        federate(TwoHeads(Given(EDGES), 1, stopping=MetaStopping(most=2)), n).bytes_down for n in (6, 8)
    )
    assert twice - once == 2 * 3 * (16 + 8 + 24)


def test_losses_and_stops_by_hand():
    """Clients stop in different rounds, and go on teaching those that have not."""
    stopping = MetaStopping(degraded=99, rising=99, change=0.03, still=1)

    def rule(rows, k):
        if len(rows) < 2:
            return False
        (own, meta), (own_before, meta_before) = rows[-1], rows[-2]
        pairs = (own[k], own_before[k]), (meta[k], meta_before[k])
        return all(abs(now - before) < 0.03 * before for now, before in pairs)

    edges = [[1, 2], [0, 2], [0, 1]]
    algorithm = TwoHeads(Complete(), 2, 0.3, "js", "holistic", 2.0, stopping)
    federation = federate(algorithm, 9)
    nets = models(federate(Local(), 2))
    stopped, history = by_hand(nets, 2, 7, edges, rule=rule)
    assert len(set(stopped.values())) > 1 or 0 < len(stopped) < 3, stopped
    ledger = federation.algorithm.state["ledger"]
    assert [k for k in range(3) if ledger["stopped"][k]] == sorted(stopped)
    for row, (own, meta) in enumerate(history):
        for k in range(3):
            for name, losses in (("own", own), ("meta", meta)):
                assert float(ledger[name][row, k]) == pytest.approx(losses.get(k, -1), rel=1e-3)
    assert_near(federation, nets)


def test_meta_is_measured_by_those_who_learn_from_a_client():
    """On one-way edges, the loss of client 1 is measured by client 0 alone, that of client 2 by client 1."""
    federation = federate(TwoHeads(Given(EDGES), 1, stopping=MetaStopping()), 2)
    nets, clients = models(federate(Local(), 1)), private()
    for net in nets.values():
        net.network.heads[1].load_state_dict(net.network.heads[0].state_dict())
    meta = federation.algorithm.state["ledger"]["meta"][0]
    for j, by in {0: [1, 2], 1: [0], 2: [1]}.items():
        expected = sum(mean_loss(nets[j], *clients[k].validation()) for k in by) / len(by)
        assert float(meta[j]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stopping", [None, MetaStopping(most=1)])
def test_same_seed_gives_same_bits_in_any_order_of_clients(stopping):
    one, two = (
        federate(TwoHeads(Ring(), 1, stopping=stopping), 4, clients=clients)
        for clients in (private(), private()[::-1])
    )
    for i in range(3):
        for group in ("personal", "memory"):
            a, b = (f.engine.host.store.get(i)[group] for f in (one, two))
            assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    for name, table in one.algorithm.state["ledger"].items():
        assert torch.equal(table, two.algorithm.state["ledger"][name])


def test_a_second_fit_begins_anew():
    algorithm = TwoHeads(Ring(), 0)
    federation = federate(algorithm, 2)
    trainer(1).fit(federation, loader(private(), per_epoch=2))
    assert algorithm.state["ledger"]["edition"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": -1}, "warmup=-1 must be 0 or more"),
        ({"alpha": 1.5}, r"alpha=1.5 must be in \[0, 1\]"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"measure": "tv"}, "measure='tv' must be 'ce', 'kl'"),
        ({"strategy": "mean"}, "strategy='mean' must be 'holistic'"),
    ],
)
def test_bad_numbers_and_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoHeads(Ring(), **arguments)


class OneRuns(LightningModule):
    """Has a second head that its forward does not run."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.one(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return sgd(self.parameters())


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (Classifier(nn.Linear(3, 2), 2), {}, "first='network.heads.0' is not a layer of Classifier"),
        (MultiHeadClassifier(nn.Flatten(), 2, 0, example=[3]), {}, "second='network.heads.1' is not a layer"),
        (two_heads_module(), {"second": "network.embedding"}, "must be two layers of the same tensors"),
        (two_heads_module(), {"second": "network.heads.0"}, "must be two layers"),
        (OneRuns(), {"first": "one", "second": "two"}, "layer 'two' did not run"),
    ],
)
def test_modules_without_two_heads_are_refused_before_anybody_trains(module, arguments, message):
    federation = Federation(module, TwoHeads(Ring(), **arguments))
    with pytest.raises(ValueError, match=message):
        trainer(1).fit(federation, loader(private()))
    assert len(federation.engine.host.store) == 0


def test_stopping_without_validation_data_is_refused_before_anybody_trains():
    federation = Federation(two_heads_module(), TwoHeads(Ring(), 5, stopping=MetaStopping()))
    with pytest.raises(ValueError, match=r"stopping needs validation data at every client, and .* none"):
        trainer(1).fit(federation, loader(samples()))
    assert len(federation.engine.host.store) == 0
