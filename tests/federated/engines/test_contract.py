"""What every engine has to bear: the same test for all of them."""

import math
import re
import threading
from collections.abc import Iterator

import pytest
import torch

from lkd.callbacks.everywhere import everywhere
from lkd.callbacks.exchanged import Exchanged
from lkd.federated import FD, SCAFFOLD, FedAvg, Federation, LocalTraining
from lkd.federated.engines import Engine, Loop, Processes, Stacked
from lkd.federated.engines import remote as module
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.server.round import TooFewClientsError
from lkd.modules import Classifier

from ..knowledge.two_models import net
from ..quadratic import Quadratic, loader, trainer
from ..test_rounds import samples
from . import described
from .clients import WRONG, Two, Wrong, clients
from .machines import give

GOOD = [k for k in range(4) if k != WRONG]


@pytest.fixture(scope="module")
def processes():
    engine = Processes(workers=2, keep=True)
    yield engine
    engine.keep_processes = False
    engine.close()


@pytest.fixture(params=["loop", "processes", "stacked", pytest.param("nvflare", marks=pytest.mark.slow)])
def engine(request):
    if request.param == "nvflare":
        machines = request.getfixturevalue("machines")
        give(machines, described.POINTS)
        return machines
    if request.param == "processes":
        return request.getfixturevalue("processes")
    return Loop() if request.param == "loop" else Stacked()


class Spoilt:
    """An engine whose replies are changed on their way: a client that lies, or a network that repeats."""

    def __init__(self, engine: Engine, change):
        self._engine, self._change = engine, change

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def exchange(self, verb: str, messages: dict[int, Message], timeout=None) -> Iterator[Reply]:
        for reply in self._engine.exchange(verb, messages, timeout):
            yield from self._change(reply) if reply.client == WRONG else [reply]


def fit(engine, rounds=2, model=None, algorithm=None, everyone=None, **kwargs):
    model, algorithm = model or Quadratic(), algorithm or FedAvg()
    federation = Federation(model, algorithm, LocalTraining(epochs=1), **kwargs)
    federation.engine = engine
    described.describe(engine, model, algorithm, kwargs.get("client_timeout"), two="other_models" in kwargs)
    trainer(rounds).fit(federation, loader(everyone or clients()))
    return federation


def failures(federation):
    return {record.client: record.error for record in federation.records if record.error}


def mean_step(x, points):
    """A round in closed form: two steps of .05 towards each point."""
    return sum((x - e) * 0.95**2 + e for e in points) / len(points)


def test_all_are_well(engine):
    federation = fit(engine)
    assert not failures(federation)
    assert federation.model.x.item() == pytest.approx(
        mean_step(mean_step(0.0, range(4)), range(4)), abs=1e-12
    )


@pytest.mark.parametrize(
    ("how", "told"), [("raises", "OSError: no space left on the camera"), ("nan", "not finite")]
)
def test_who_fails_is_left_out_and_comes_back(engine, how, told):
    one = fit(engine, 1, Wrong(how))
    assert told in failures(one)[WRONG]
    assert one.model.x.item() == pytest.approx(mean_step(0.0, GOOD), abs=1e-12)
    two = fit(engine, 2, Wrong(how))
    assert not failures(two)
    assert two.model.x.item() == pytest.approx(mean_step(mean_step(0.0, GOOD), range(4)), abs=1e-12)


def test_who_is_late_is_left_out(engine):
    federation = fit(engine, 1, Wrong("late"), client_timeout=0.25)
    assert failures(federation) == {WRONG: "TimeoutError: not done after client_timeout=0.25 seconds"}
    assert federation.model.x.item() == pytest.approx(mean_step(0.0, GOOD), abs=1e-12)


def test_a_process_that_dies_costs_its_client_the_round_and_is_replaced(processes):
    federation = fit(processes, 2, Wrong("dead"), SCAFFOLD())
    whole = fit(Loop(), 2, Wrong("raises"), SCAFFOLD())  # the same as for one that fails
    assert torch.equal(federation.model.x, whole.model.x)
    one = fit(processes, 1, Wrong("dead"))
    assert failures(one) == {WRONG: "its worker process ended (exit code 3)"}


def test_a_process_that_hangs_costs_its_client_the_round_and_is_replaced(processes, monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.5)
    federation = fit(processes, 2, Wrong("hangs"), client_timeout=0.5)
    whole = fit(Loop(), 2, Wrong("raises"))
    assert torch.equal(federation.model.x, whole.model.x) and not failures(federation)


def changed(**parts):
    def change(reply):
        for name, value in parts.items():
            setattr(reply, name, value)
        return [reply]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            changed(tensors={"delta": {"x": torch.zeros(3, dtype=torch.float64)}, "buffers": {}}),
            r"is \(3,\) of",
        ),
        (changed(tensors={"delta": {"x": torch.zeros(1)}, "buffers": {}}), "of torch.float32, not"),
        (
            changed(tensors={"delta": {"y": torch.zeros(1)}, "buffers": {}}),
            "does not have the server's names",
        ),
        (changed(metrics={"steps": math.nan}), "number steps is not finite"),
        (changed(round=7), "its reply is of round 7"),
    ],
)
def test_a_reply_that_is_of_no_use_is_left_out(engine, change, told):
    federation = fit(Spoilt(engine, change), 1)
    (error,) = failures(federation).values()
    assert re.search(told, error)
    assert federation.model.x.item() == pytest.approx(mean_step(0.0, GOOD), abs=1e-12)


def test_a_reply_that_comes_twice_counts_once(engine):
    federation = fit(Spoilt(engine, lambda reply: [reply, reply]), 1)
    assert federation.model.x.item() == pytest.approx(mean_step(0.0, range(4)), abs=1e-12)


def test_a_reply_of_somebody_who_was_not_asked_does_not_count(engine):
    def stranger(reply):
        other = Reply(reply.tensors, reply.metrics, reply.knowledge, client=17, round=reply.round)
        return [reply, other]

    federation = fit(Spoilt(engine, stranger), 1)
    assert federation.model.x.item() == pytest.approx(mean_step(0.0, range(4)), abs=1e-12)
    assert [record.client for record in federation.records] == [0, 1, 2, 3]


def test_a_round_in_which_too_few_are_left_stops_the_run(engine):
    with pytest.raises(TooFewClientsError, match="3 of 4 clients succeeded"):
        fit(engine, 1, Wrong("raises"), min_clients=4)


def test_a_round_in_which_nobody_is_left_stops_the_run(engine):
    if hasattr(engine, "description"):
        pytest.skip("a site's clients are those of its data, from 0 on")
    with pytest.raises(TooFewClientsError, match="0 of 1 clients succeeded"):
        fit(engine, 1, Wrong("raises"), everyone=[c for c in clients(3) if c.id == WRONG] or None)


def test_two_architectures(engine):
    kinds = {"other_models": [Two()], "client_models": [0, 1, 0, 1]}
    found = fit(engine, 2, **kinds)
    whole = fit(Loop(), 2, other_models=[Two()], client_models=[0, 1, 0, 1])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name
    assert not torch.equal(found.other_models[0].y, torch.ones(1, dtype=torch.float64))


def test_a_run_is_resumed(engine, tmp_path):
    whole = fit(Loop(), 4, algorithm=SCAFFOLD())
    described.describe(engine, Quadratic(), SCAFFOLD())
    first = Federation(Quadratic(), SCAFFOLD(), LocalTraining(epochs=1), engine=engine)
    begun = trainer(2)
    begun.fit(first, loader(clients()))
    begun.save_checkpoint(tmp_path / "last.ckpt")
    second = Federation(Quadratic(), SCAFFOLD(), LocalTraining(epochs=1), engine=engine)
    trainer(4).fit(second, loader(clients()), ckpt_path=tmp_path / "last.ckpt")
    assert torch.equal(whole.model.x, second.model.x)
    kept = whole.engine.state_dict()["clients"], second.engine.state_dict()["clients"]
    assert kept[0].keys() == kept[1].keys() == {0, 1, 2, 3}
    assert all(torch.equal(kept[0][k]["c"]["x"], kept[1][k]["c"]["x"]) for k in kept[0])


def test_nothing_here_can_look_at_clients_elsewhere(processes):
    federation = fit(processes, 1)
    with pytest.raises(
        RuntimeError, match=r"engine=Processes: its clients work in other processes, .* engine=Loop\(\)"
    ):
        list(federation.models(clients()))
    with pytest.raises(RuntimeError, match="engine=Processes"):
        _ = federation.students
    with pytest.raises(
        RuntimeError, match=r"engine=Processes.* measurement of all clients on the shared data"
    ):
        everywhere(federation, clients(), [], "val")
    with pytest.raises(RuntimeError, match=r"engine=Processes.* a count of public samples"):
        Exchanged().watch(federation, None)


def test_what_cannot_be_given_to_another_process_is_refused():
    class Locked(Quadratic):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(
        ValueError, match=r"engine=Processes: the federation cannot be given to another process .*lock"
    ):
        fit(Processes(workers=1), 1, Locked())


def test_a_mistake_at_a_client_is_told_as_a_sentence(processes):
    federation = Federation(Classifier(net(1), 2), FD(layer="network.9"), engine=processes)
    with pytest.raises(ValueError, match=r"network\.9"):
        trainer(1).fit(federation, loader(samples()))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"workers": 0}, "workers=0"), ({"threads": 0}, "threads=0"), ({"start_timeout": 0}, "start_timeout=0")],
)
def test_bad_numbers(wrong, told):
    with pytest.raises(ValueError, match=told):
        Processes(**wrong)


def test_a_class_in_place_of_an_engine():
    with pytest.raises(TypeError, match=r"engine=.* must be an object of Engine, such as Loop\(\)"):
        Federation(Quadratic(), engine=Loop)
