"""An engine is closed once, however a fit ends: well, by an error, by Ctrl+C, or before it has begun."""

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import OnExceptionCheckpoint

from lkd.federated import Federation
from lkd.federated.engines import Loop, Processes
from lkd.federated.protocol.messages import Reply
from lkd.federated.server.round import TooFewClientsError

from ..job import run
from ..quadratic import Point, Quadratic, loader, trainer


class Watched(Loop):
    """A loop that notes what is called, and can fail."""

    def __init__(self, fails="", error=RuntimeError):
        super().__init__()
        self.fails, self.error, self.calls = fails, error, []

    def _note(self, name):
        self.calls.append(name)
        if self.fails == name:
            raise self.error(f"{name} fails")

    def meet(self, trainer):
        self._note("meet")

    def prepare(self, trainer, anew):
        self._note("prepare")
        super().prepare(trainer, anew)

    def exchange(self, verb, messages, timeout=None):
        self._note("exchange")
        if self.fails == "clients":
            yield from (Reply(client=client, error="fails") for client in messages)
        else:
            yield from super().exchange(verb, messages, timeout)

    def state_dict(self):
        self._note("state_dict")
        return super().state_dict()

    def close(self):
        self.calls.append("close")


def fit(engine, used=None, **more):
    clients = [Point(k, [(1.0, [float(k)])], 2) for k in range(2)]
    used = used or trainer(2, **more)
    used.fit(Federation(Quadratic(), engine=engine), loader(clients))


def test_after_a_good_fit():
    engine, used = Watched(), trainer(2)
    fit(engine, used)
    assert engine.calls.count("close") == 1 and engine.calls[-1] == "close"


@pytest.mark.parametrize(
    ("fails", "error", "raised"),
    [
        ("clients", None, TooFewClientsError),
        ("exchange", KeyboardInterrupt, SystemExit),
        ("exchange", RuntimeError, RuntimeError),
        ("prepare", RuntimeError, RuntimeError),
        ("prepare", KeyboardInterrupt, SystemExit),
        ("meet", RuntimeError, RuntimeError),
    ],
)
def test_after_an_error_and_again_afterwards(fails, error, raised, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *args: None)  # else Lightning ignores the next Ctrl+C
    engine = Watched(fails, error)
    with pytest.raises(raised):
        fit(engine)
    assert engine.calls.count("close") == 1 and engine.calls[-1] == "close"
    engine.fails = ""
    fit(engine)
    assert engine.calls.count("close") == 2 and engine.calls[-1] == "close"


def test_a_checkpoint_of_the_error_is_written_before(tmp_path):
    engine = Watched("exchange")
    with pytest.raises(RuntimeError, match="exchange fails"):
        fit(engine, enable_checkpointing=True, callbacks=[OnExceptionCheckpoint(tmp_path)])
    assert engine.calls[-2:] == ["state_dict", "close"] and list(tmp_path.glob("*.ckpt"))


def test_a_trainer_has_it_once():
    engine, used = Watched(), trainer(1)
    fit(engine, used)
    fit(engine, used)
    assert sum(type(callback).__name__ == "Closing" for callback in used.callbacks) == 1


class Interrupts(Callback):
    def on_client_end(self, trainer, federation, record):
        raise KeyboardInterrupt


def test_processes_end_with_ctrl_c_in_the_middle_of_a_round(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *args: None)
    engine = Processes(workers=2)
    with pytest.raises(SystemExit):
        run("scaffold", tmp_path / "first", 1, callbacks=[Interrupts()], engine=engine)
    assert engine._pool == []
    run("scaffold", tmp_path / "second", 1, engine=engine)
