"""The teacher at the edge server: rounds by hand, its modalities, what travels, what is refused."""

import pytest
import torch
from torch import nn

from lkd.datamodules import FederatedDataModule, Natural, Synthetic
from lkd.federated import Federation, Local, ServerTeacher
from lkd.modules import MultimodalClient
from lkd.teachers import Teacher

from ..quadratic import trainer
from ..test_exact import assert_same, result
from ..test_exact import run as run_job
from ..test_rounds import samples
from .public import (
    NUMBER,
    Rows,
    assert_own,
    descend,
    federate,
    model,
    net,
    nets,
    own,
    train_privately,
    with_public,
)

T = 2.5


def teacher(classes=2):
    return Teacher(net(5, 6, classes))


def kl(student, target):
    """T^2 KL(target || student), sample by sample from the definition."""
    q, p = (target / T).softmax(1), (student / T).softmax(1)
    return T**2 * (q * (q.log() - p.log())).sum() / len(q)


def by_hand(rounds, epochs, warmup, clients):
    """The lesson first, then a local epoch."""
    models, x = nets(), clients[0].public.x
    with torch.no_grad():
        target = net(5, 6, 2)(x)
    for r in range(rounds):
        for network, client in zip(models, clients, strict=True):
            for _ in range(epochs if r >= warmup else 0):
                descend(network, kl(network(x), target))
            train_privately(network, client, r)
    return models


@pytest.mark.parametrize("warmup", [0, 2])
def test_rounds_by_hand(warmup):
    """All public samples in one batch, so that their order counts for nothing."""
    lessons = ServerTeacher(teacher(), epochs=2, batch_size=10, temperature=T, warmup=warmup)
    federation = federate(lessons, rounds=3)
    assert_own(federation, by_hand(3, 2, warmup, with_public()))


def test_without_a_lesson_it_is_local_training():
    one, two = federate(ServerTeacher(teacher(), warmup=2)), federate(Local())
    for i in range(3):
        for name, value in own(one, i).items():
            assert torch.equal(value, own(two, i)[name])


def test_a_teacher_that_is_the_student_teaches_nothing():
    clients = with_public()[:1]
    itself = ServerTeacher(Teacher(net(1)), batch_size=10, temperature=T)
    one, two = (federate(a, rounds=1, clients=clients) for a in (itself, Local()))
    for name, value in own(one, 0).items():
        torch.testing.assert_close(value, own(two, 0)[name], rtol=0, atol=1e-6)


def test_targets_travel_down_and_no_knowledge_up():
    federation = federate(ServerTeacher(teacher(), samples=6), rounds=2)
    floats = 6 * 2 * 4  # samples, classes, bytes
    assert federation.bytes_down == 2 * 3 * (3 * NUMBER + floats)  # the round, the steps, the seed
    assert federation.bytes_up == 2 * 3 * NUMBER  # the steps that were made


def test_the_teacher_stays_as_it_is_and_out_of_the_federations_weights():
    taught = teacher()
    before = [p.clone() for p in taught.parameters()]
    federation = federate(ServerTeacher(taught))
    assert all(torch.equal(a, b) for a, b in zip(before, taught.parameters(), strict=True))
    plain = federate(Local())
    assert federation.state_dict().keys() == plain.state_dict().keys()


def test_public_batches_are_those_of_the_round():
    drawn = []

    class Watched(Rows):
        def batches(self, rows, batch_size):
            drawn.append(list(rows))
            return super().batches(rows, batch_size)

    lessons = ServerTeacher(teacher(), samples=4, batch_size=4)
    federate(lessons, rounds=2, clients=with_public(public=Watched()))
    drawn = [rows for rows in drawn if len(rows) == 4]
    rounds = [drawn[:4], drawn[4:]]  # the teacher, and three clients in orders of their own
    assert all({frozenset(rows) for rows in each} == {frozenset(each[0])} for each in rounds)
    assert set(rounds[0][0]) != set(rounds[1][0])


class Pairs:
    """Public samples of two modalities, of which only the second tells the class."""

    def __init__(self, size=64):
        generator = torch.Generator().manual_seed(3)
        self.y = torch.randint(2, (size,), generator=generator)
        self.x = {
            "weak": torch.randn(size, 3, generator=generator) + 0.8 * self.y[:, None],
            "strong": torch.randn(size, 2, generator=generator) + 4.0 * self.y[:, None],
        }

    def __len__(self):
        return len(self.y)

    def batches(self, rows, batch_size):
        for chunk in torch.as_tensor(rows).split(batch_size):
            yield {name: values[chunk] for name, values in self.x.items()}


class Weak:
    """A client that owns the weak modality, and has few samples of its own, wrongly labeled."""

    id, name, num_samples, population = 0, "weak", 8, 1
    share = probability = 1.0

    def __init__(self, public):
        self.public = public
        generator = torch.Generator().manual_seed(8)
        self.batch = (
            {"weak": torch.randn(8, 3, generator=generator)},
            torch.randint(2, (8,), generator=generator),
        )

    def has(self, part):
        return part == "train"

    def num_batches(self):
        return 1

    def train_batches(self, seed):
        return [self.batch]

    def ordered_batches(self, part):
        return [self.batch]


def client(*modalities):
    widths = {"weak": 3, "strong": 2}
    torch.manual_seed(0)
    return MultimodalClient(
        encoders={m: nn.Linear(widths[m], 8) for m in modalities},
        num_classes=2,
        example={m: [widths[m]] for m in modalities},
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1),
    )


class Strong(nn.Module):
    """Knows the class from the modality that no client has."""

    def forward(self, x):
        score = 3.0 * (x["strong"].mean(1) - 2.0)
        return torch.stack([-score, score], 1)


def test_it_teaches_what_it_sees_in_a_modality_that_the_client_lacks():
    public = Pairs()

    def accuracy(algorithm):
        federation = federate(algorithm, rounds=20, module=client("weak"), clients=[Weak(public)])
        (_, model), *_ = federation.models([Weak(public)])
        return float((model.eval()(public.x).argmax(1) == public.y).float().mean())

    taught = accuracy(ServerTeacher(Teacher(Strong()), batch_size=16, temperature=1.0))
    assert taught > 0.7 > accuracy(Local()) + 0.1


def test_resumed_equals_uninterrupted(tmp_path):
    run_job("server_teacher", tmp_path / "whole", 5)
    run_job("server_teacher", tmp_path / "parts", 1)
    run_job("server_teacher", tmp_path / "parts", 5)
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))


def without_public():
    clients = samples()
    for client in clients:
        client.public = None
    return clients


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ServerTeacher(teacher(), temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: ServerTeacher(teacher(), samples=0), "samples=0 must be 1 or more"),
        (lambda: federate(ServerTeacher(teacher(3))), r"tells \(3,\) numbers .* gives \(2,\)"),
        (
            lambda: federate(ServerTeacher(teacher()), clients=without_public()),
            "public data, and there are none",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_that_there_are_no_public_data_is_said_before_a_teacher_is_trained(monkeypatch):
    taught = teacher()
    monkeypatch.setattr(taught, "prepare", lambda: pytest.fail("too early"))
    data = FederatedDataModule(Synthetic(clients=2), Natural("client"))
    with pytest.raises(ValueError, match="public data, and there are none"):
        trainer(1).fit(Federation(model(classes=10), ServerTeacher(taught)), data)


def test_a_model_is_no_teacher():
    with pytest.raises(
        TypeError, match=r"teacher=Sequential must be a Teacher; wrap it: Teacher\(Sequential\)"
    ):
        ServerTeacher(nn.Sequential())
