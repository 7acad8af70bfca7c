"""Answers of a site that a server does not believe, or does not wait for."""

import re
from multiprocessing import Pipe

import pytest
import torch
from lightning.pytorch import Callback

from lkd.datamodules import SiteClients
from lkd.federated.engines import Loop
from lkd.federated.engines import nvflare as module
from lkd.federated.engines import site as site_module
from lkd.federated.engines.seats import ask
from lkd.federated.engines.site import Site, told_by
from lkd.federated.engines.site_answers import kept
from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import RefusalError, Reply
from lkd.federated.protocol.wire import pack, unpack
from lkd.federated.server.round import TooFewClientsError
from lkd.frames import frame, unframe

from ..job import run
from ..test_exact import assert_same, result
from .test_site import Here, here  # noqa: F401 (a fixture)

INFO = ClientInfo(0, "C1", 8, 2).as_dict()


def answering(*answers, name="camera-7", limit=5.0):
    """A site that gives these answers, whatever it is asked."""
    ours, theirs = Pipe()
    for answer in answers:
        theirs.send_bytes(answer)
    site = Site(name, limit)
    site.join(ours)
    site.theirs = theirs
    return site


def asked(*clients, **more):
    return ask({"camera-7": answering(frame({"clients": list(clients), **more}))})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"num_samples": ...}, "must say id, name, num_samples"),
        ({"more": 1}, "must say id, name, num_samples"),
        ({"num_samples": -5}, "num_samples=-5 must be a whole number, 1 or more"),
        ({"num_samples": 0}, "num_samples=0 must be"),
        ({"num_samples": True}, "num_samples=True must be"),
        ({"num_samples": 1.5}, "num_samples=1.5 must be"),
        ({"num_samples": 10**40}, "num_samples=1000"),
        ({"num_batches": 0}, "num_batches=0 must be"),
        ({"id": "0"}, "id='0' must be"),
        ({"public": None}, "public=None must be"),
        ({"name": 3}, "name=3 must be a short text"),
        ({"name": ""}, "name='' must be a short text"),
        ({"name": "a" * 101}, "must be a short text, of 100 letters at most"),
        ({"name": "a\x1b[2J"}, "must be a short text"),
        ({"parts": None}, "parts=None must be a list of train, val, test"),
        ({"parts": ["train", ["val"]]}, "must be a list of train, val, test"),
        ({"present": {"acc": -1}}, "present={'acc': -1} must be whole numbers by short names"),
    ],
)
def test_a_client_that_cannot_be(changed, told):
    one = {key: value for key, value in {**INFO, **changed}.items() if value is not ...}
    with pytest.raises(RefusalError, match=f"^site camera-7: of its client 0, .*{re.escape(told)}"):
        asked(one)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (frame({"clients": {}}), r"site camera-7: clients=\{\} must be a list"),
        (frame({}), "site camera-7: clients=None must be a list"),
        (frame({"clients": [INFO, INFO]}), "site camera-7: of its client 1, id=0 is that of another one"),
        (frame({"clients": [3]}), "site camera-7: of its client 0, 3 must say id"),
        (frame({"clients": []}), "no site has a client"),
        (b"\x00", "site camera-7: its answer to 'info' is no frame"),
        (frame({"error": "no data", "refused": True}), "site camera-7: no data"),
    ],
)
def test_an_answer_that_is_none(answer, told):
    with pytest.raises(ValueError, match=told):
        ask({"camera-7": answering(answer)})


def test_what_is_right_is_taken():
    data = SiteClients()
    data.take([(name, one) for name, one in asked(INFO, {**INFO, "id": 4, "name": "C2", "num_samples": 24})])
    assert [client.share for client in data.clients] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("owner", "tensor", "told"),
    [
        ([1, "c"], torch.ones(2), r"'c' of client 1 must be of one of the site's clients, \[0, 2\]"),
        ([-1, "c"], torch.ones(2), r"\[-1, 'c'\] must be a client and a name"),
        (["2", "c"], torch.ones(2), r"\['2', 'c'\] must be a client and a name"),
        ([True, "c"], torch.ones(2), ".* must be a client and a name"),
        ([2, 3], torch.ones(2), ".* must be a client and a name"),
        ("2c", torch.ones(2), ".* must be a client and a name"),
        ([2, "c"], torch.tensor([torch.nan]), "client 2's c must be finite"),
        ([2, "c"], torch.zeros(2).to(torch.float8_e5m2), "client 2's c has 'w' of torch.float8_e5m2"),
    ],
)
def test_what_another_s_clients_keep_is_not_taken(owner, tensor, told):
    right = {"0": {"w": torch.ones(2)}}
    both = pack(Reply({**right, "1": {"w": tensor}}))
    with pytest.raises(RefusalError, match=f"^site camera-7: of what its clients keep, {told}"):
        answering(frame({"kept": [[0, "c"], owner]}, both)).states([0, 2])
    for head in ({}, {"kept": 3}, {"kept": [[0, "c"]]}):
        with pytest.raises(RefusalError, match="must have an entry for each group"):
            answering(frame(head, both)).states([0, 2])
    with pytest.raises(RefusalError, match=r"^site camera-7: of what its clients keep, no Reply"):
        answering(frame({"kept": []}, b"nothing")).states([0, 2])
    assert kept([[0, "c"]], Reply(right), [0, 2])[0]["c"]["w"].sum() == 2


@pytest.mark.parametrize("do", ["info", "begin", "start", "keep", "states", "restore"])
def test_a_site_that_does_not_answer_is_not_waited_for(do, monkeypatch):
    monkeypatch.setattr(site_module, "GRACE", 0.1)
    site = answering(limit=0.2)
    with pytest.raises(
        ConnectionError, match=f"site camera-7 has not answered '{do}' within start_timeout=0.2 seconds"
    ):
        site.ask({"do": do})
    assert not site.lives and unframe(site.theirs.recv_bytes())[0] == {"do": do, "limit": 0.2}


def test_work_has_the_limit_of_clients():
    site = answering()
    site.send({"do": "answer", "client": 3, "timeout": None})
    assert unframe(site.theirs.recv_bytes())[0] == {"do": "answer", "client": 3, "timeout": None, "mark": 1}


def test_an_answer_that_was_lost_is_undone_when_the_site_is_back():
    site = answering(frame({}, pack(Reply())))
    answer = {"do": "answer", "client": 3, "timeout": None}
    site.send(answer)
    site.read()
    site.begin()  # the answer was read, so nothing is undone
    assert unframe(site.theirs.recv_bytes())[0]["do"] == "answer" and not site.theirs.poll()
    site.send({**answer, "client": 4})
    site.end()
    ours, theirs = Pipe()
    site.join(ours)
    site.begin()
    assert unframe(theirs.recv_bytes())[0] == {
        "do": "undo", "client": 4, "mark": 2, "quiet": True, "limit": site.limit
    }  # fmt: skip
    assert not theirs.poll() and site.begun


def test_what_a_site_could_not_do_is_no_refusal():
    site = answering(frame({"error": "its training process ended"}))
    with pytest.raises(ConnectionError, match="site camera-7: its training process ended"):
        site.ask({"do": "states"})
    assert site.lives


def test_answers_that_nobody_waits_for_are_never_read():
    refuses = answering(frame({"error": "no", "refused": True}), name="a")
    late = answering(frame({"clients": []}), name="b")
    with pytest.raises(RefusalError, match="site a: no"):
        told_by([refuses, late])
    assert refuses.lives and not late.lives


class Spoils(Callback):
    """Lets a site give another answer to a command, from a round on."""

    def __init__(self, do, answer):
        self.do, self.answer = do, answer

    def on_train_batch_end(self, trainer, module, *args):
        def spoil(data, do):
            return self.answer(data) if do == self.do else data

        module.engine._deployment.spoil = spoil


def foreign(data):
    head, body = unframe(data)
    reply = unpack(body, Reply)
    reply.tensors[str(len(reply.tensors))] = {"x": torch.zeros(1)}
    return frame({**head, "kept": [*head["kept"], [99, "c"]]}, pack(reply))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            foreign,
            "site site-0: of what its clients keep, 'c' of client 99 must be of one of the site's clients",
        ),
        (lambda data: frame({"error": "RuntimeError: full"}), "site site-0: RuntimeError: full"),
    ],
)
def test_a_checkpoint_is_written_without_it_and_the_run_goes_on(answer, told, tmp_path, here):  # noqa: F811
    with pytest.warns(UserWarning, match=f"{told}.*so the checkpoint has of its clients what they kept"):
        federation = run(
            "scaffold", tmp_path, 1, callbacks=[Spoils("states", answer)], engine=here("scaffold")
        )
    assert 99 not in federation.engine.state_dict()["clients"]


def test_a_site_that_cannot_begin_again_costs_its_clients_the_rounds(tmp_path, here):  # noqa: F811
    class Returns(Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            deployment = module.engine._deployment
            if trainer.current_epoch == 1:
                deployment.join()
                deployment.spoil = lambda data, do: frame({"error": "full"}) if do == "begin" else data

        def on_train_batch_end(self, trainer, module, *args):
            errors.append({record.error for record in module.records})

        def on_exception(self, trainer, module, exception):
            errors.append(str(exception))

    errors = []
    with pytest.raises(TooFewClientsError, match="site site-0 is not there"):
        run("scaffold", tmp_path, 3, callbacks=[Returns()], engine=here("scaffold"))
    assert errors[0] == {""} and len(errors) == 2


def test_sites_that_do_not_come_end_the_deployment_and_a_later_fit_works(tmp_path, here, monkeypatch):  # noqa: F811
    made = []

    class Late(Here):
        def __init__(self, *args):
            super().__init__(*args)
            self.closed = 0
            made.append(self)

        def gather(self, there=()):
            if len(made) == 1:
                raise RuntimeError("0 of 1 sites work")
            return super().gather(there)

        def close(self):
            self.closed += 1

    monkeypatch.setattr(module, "Deployment", Late)
    engine = here("scaffold")
    engine.keep_sites = True
    with pytest.raises(RuntimeError, match="0 of 1 sites work"):
        run("scaffold", tmp_path / "one", 1, engine=engine)
    assert [deployment.closed for deployment in made] == [1]
    engine.keep_sites = False
    run("scaffold", tmp_path / "one", 1, engine=engine)
    assert [deployment.closed for deployment in made] == [1, 1]


def test_sites_that_stay_are_there_for_a_fit_after_an_error(tmp_path, here):  # noqa: F811
    class Interrupts(Callback):
        def on_client_end(self, trainer, federation, record):
            raise RuntimeError("stop")

    engine = here("scaffold")
    engine.keep_sites = True
    with pytest.raises(RuntimeError, match="stop"):
        run("scaffold", tmp_path / "one", 1, callbacks=[Interrupts()], engine=engine)
    assert not engine._sites["site-0"].lives  # it works for a client that nobody waits for
    engine._deployment.thread.join(10)  # a site does one thing after the other
    engine._deployment.join()
    run("scaffold", tmp_path / "two", 2, engine=engine)
    run("scaffold", tmp_path / "loop", 2)
    assert_same(result(tmp_path / "two"), result(tmp_path / "loop"))


class Fresh(Here):
    """A rehearsal's sites, which begin with nothing."""

    def __init__(self, *args):
        Here.folder = Here.folder.with_name(f"{Here.folder.name}_")
        Here.folder.mkdir()
        super().__init__(*args)


@pytest.mark.parametrize("kind", ["fedbn", "scaffold"])
def test_clients_are_measured_after_a_fit_and_a_later_fit_goes_on(kind, tmp_path, here, monkeypatch):  # noqa: F811
    monkeypatch.setattr(module, "Deployment", Fresh)
    found = []
    for engine in (Loop(), here(kind)):
        federation = run(kind, tmp_path / type(engine).__name__, 2, engine=engine)
        clients = list(federation.trainer.datamodule.clients)
        measured = [(one.client, one.metrics) for one in federation.evaluate(clients, "train")]
        again = run(
            kind, tmp_path / f"{type(engine).__name__}_again", 2, engine=engine, make=lambda f=federation: f
        )
        kept_there = dict(sorted(again.engine.state_dict()["clients"].items()))
        found.append((measured, again.state_dict(), kept_there))
    one, other = found
    assert one[0] == other[0]
    assert_same({"weights": one[1], "kept": one[2]}, {"weights": other[1], "kept": other[2]})
