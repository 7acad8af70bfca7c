"""FD: the paper's algorithm in plain loops, degenerate cases, what travels, what is refused."""

import pytest
import torch
import torch.nn.functional as F

from lkd.federated import FD, Local

from ..quadratic import loader, trainer
from ..test_rounds import Samples
from .public import NUMBER, assert_own, descend, federate, model, nets
from .two_models import assert_same_bits, batches


class Only(Samples):
    """A client that has these classes of three; batches are kept in order."""

    def __init__(self, id, classes, n=12):
        super().__init__(id, n, batch=5)
        g = torch.Generator().manual_seed(100 + id)
        self.y = torch.tensor(classes)[torch.randint(len(classes), (n,), generator=g)]


def clients():
    """Class 0 is nearly everybody's, class 1 of two clients, class 2 of one alone."""
    return [Only(0, [0, 1]), Only(1, [0, 1]), Only(2, [0, 2])]


def by_hand(rounds, gamma):
    """Jeong et al., Algorithm 1: `F_k,l` is the running mean output of each class, before each step; the target is
    `(M F_l - F_k,l) / (M - 1)` over the M clients that have the class."""
    models, targets = nets(classes=3), [{} for _ in range(3)]
    told = []
    for r in range(rounds):
        told = []
        for network, client, target in zip(models, clients(), targets, strict=True):
            said = {}
            for x, y in batches(client, r):
                z = network(x)
                loss = 0.0
                for i, label in enumerate(y.tolist()):
                    p = torch.softmax(z[i], 0)
                    said.setdefault(label, []).append(p.detach())
                    loss = loss - torch.log(p[label])
                    if label in target:
                        loss = loss - gamma * sum(target[label][c] * torch.log(p[c]) for c in range(3))
                descend(network, loss / len(y))
            told.append({label: sum(rows) / len(rows) for label, rows in said.items()})
        for k in range(3):
            targets[k] = {}
            for label in range(3):
                having = [t[label] for t in told if label in t]
                if label in told[k] and len(having) > 1:
                    mean = sum(having) / len(having)
                    targets[k][label] = (len(having) * mean - told[k][label]) / (len(having) - 1)
    return models, told


def fd(algorithm, rounds=3, **kwargs):
    return federate(
        algorithm,
        rounds,
        **{
            "module": model(1, classes=3),
            "other_models": [model(2, 7, classes=3)],
            "clients": clients(),
            **kwargs,
        },
    )


@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_rounds_by_hand(gamma):
    federation = fd(FD(gamma))
    models, told = by_hand(3, gamma)
    assert_own(federation, models)
    for k, said in enumerate(told):
        means, counts = (federation.algorithm.state[group][str(k)] for group in ("means", "counts"))
        assert [label for label in range(3) if counts[label]] == sorted(said)
        for label, mean in said.items():
            torch.testing.assert_close(means[label], mean)
            assert float(means[label].sum()) == pytest.approx(1, abs=1e-6)  # probabilities, not logits
            assert not means.requires_grad


def test_without_weight_or_without_others_it_is_local_training_bit_for_bit():
    def kept(federation):
        return {i: s["personal"] for i, s in federation.engine.host.store.state_dict().items()}

    for one, two in (
        (fd(FD(gamma=0.0)), fd(Local())),
        (fd(FD(), clients=clients()[:1]), fd(Local(), clients=clients()[:1])),
        (fd(FD(), clients=[Only(0, [0]), Only(1, [1]), Only(2, [2])]),
         fd(Local(), clients=[Only(0, [0]), Only(1, [1]), Only(2, [2])])),
    ):  # fmt: skip
        a, b = kept(one), kept(two)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[i][n], b[i][n]) for i in a for n in a[i])


def test_a_table_and_counts_go_up_a_table_and_flags_come_down():
    federation = fd(FD())
    table = 3 * 3 * 4
    sizes = 2 * NUMBER  # told once by a client of each architecture, asked with the number of the round
    assert federation.bytes_up == 3 * 3 * (NUMBER + table + 3 * 4) + sizes
    assert federation.bytes_down == 3 * 3 * 2 * NUMBER + 2 * 3 * (table + 3) + sizes


def test_same_seed_same_bits_in_any_order():
    one = fd(FD())
    assert_same_bits(one, fd(FD()))
    backwards = fd(FD(), clients=clients()[::-1])
    assert_same_bits(one, backwards)


def test_who_is_absent_in_a_round_teaches_nobody_in_the_next():
    federation = fd(FD(), rounds=1, size=2)
    assert len(federation.algorithm.state["means"]) == 2


def test_a_fit_that_resumes_nothing_begins_anew():
    algorithm, first = FD(), model(1, classes=3)
    federation = federate(algorithm, 1, module=first, clients=clients())
    assert algorithm.state["means"]
    federation.algorithm.round = lambda server: _state_of(algorithm, server)
    trainer(1).fit(federation, loader(clients()))


def _state_of(algorithm, server):
    assert not algorithm.state
    server.gather(server.train())
    return {}


def test_the_added_loss_is_logged():
    federation = fd(FD())
    assert all(record.metrics["train/distillation_loss"] > 0 for record in federation.records)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FD(gamma=-1.0), "gamma=-1.0 must be 0 or more"),
        (lambda: fd(FD(label_key="y")), "label_key='y': the batch has no such entry"),
        (
            lambda: fd(FD(), other_models=[model(2, 7, classes=4)]),
            r"different classes, 3 at model \(client 0, 2\) and 4 at other_models\[0\] \(client 1\)",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(Exception, match=message):
        make()


def test_the_soft_part_is_a_cross_entropy_summed_over_classes():
    """One client's step in closed form: the gradient at the logits is (p - y + gamma (p - q)) / B."""
    algorithm = FD(gamma=0.5)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 1, 1, 2])
    q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.0, 0.0, 0.0]], requires_grad=True)
    targets = {"targets": q.detach(), "known": torch.tensor([1, 1, 0], dtype=torch.uint8)}

    class Said:
        def output(self, layer):
            return logits

    (
        F.cross_entropy(logits, labels) + algorithm._extra({"carried": targets}, (None, labels), Said())
    ).backward()
    p, known = logits.detach().softmax(1), torch.tensor([1.0, 1.0, 1.0, 0.0])
    expected = (p - F.one_hot(labels, 3) + 0.5 * known[:, None] * (p - q[labels])) / 4
    torch.testing.assert_close(logits.grad, expected.detach())
