"""The main loop of a worker process, which answers for its clients until its pipe is closed."""

import logging
import signal
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.federated.client.elsewhere import ClientSide, WorkerJob
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.wire import pack, unpack
from lkd.frames import unframe


def serve(pipe: Connection) -> None:
    """Carries out commands until the pipe is closed; the first one is a job.

    Args:
        pipe: Commands come in, replies go out, both as bytes that execute nothing when they are read. The job
            alone is pickled, by the process that has started this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # the federation's process has shown them
    side: ClientSide | None = None
    while True:
        try:
            command, body = unframe(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        if command["do"] == "job":
            side = _begin(pipe, body)
        elif side is not None:
            if (told := do(side, command, body)) is not None:
                pipe.send_bytes(told)
        elif command["do"] == "answer":
            pipe.send_bytes(pack(Reply(client=command["client"], error="its worker process did not begin")))


def _begin(pipe: Connection, job: bytes) -> ClientSide | None:
    """Creates the client side, and replies whether that went well."""
    try:
        description, place, clients, callbacks = cloudpickle.loads(job)
        data = cloudpickle.loads(clients) if isinstance(clients, bytes) else clients
        side = ClientSide(WorkerJob(description, place, data, callbacks))
    except Exception as error:
        refused = isinstance(error, ValueError | TypeError)
        if not refused:  # a bug, whose traceback is only known here
            traceback.print_exc()
        told = str(error) if refused else f"{type(error).__name__}: {error}"
        pipe.send_bytes(pack(Reply(error=told, refused=refused)))
        return None
    pipe.send_bytes(pack(Reply()))
    return side


def do(side: ClientSide, command: dict[str, Any], body: bytes) -> bytes | None:
    """Carries out a command that is not a job; returns the reply, if one is waited for."""
    match command["do"]:
        case "answer":
            if command["first"]:  # nobody undoes answers of an earlier exchange any more
                side.host.settle()
            side.host.store.mark = command.get("mark", 0)
            return _answer(side, command, unpack(body, Message))
        case "undo":
            side.host.undo(command["client"], command.get("mark"))
        case "start":
            for kind, start in unpack(body, Message).tensors.items():
                side.host.slots[int(kind)].worker.set_start(start)
    return None


def _answer(side: ClientSide, command: dict[str, Any], message: Message) -> bytes:
    side.trainer.at(*command["at"])
    for callback, values in zip(side.callbacks, command["settings"], strict=True):
        callback.take_settings(values)
    side.hold(message.config.get("part", "train"))
    with isolate_rng():
        reply = side.host.answer(command["verb"], command["client"], message, command["timeout"])
    try:
        return pack(reply)
    except Exception as error:  # a tensor of a kind that cannot travel
        side.host.undo(command["client"])
        return pack(Reply(client=command["client"], error=f"{type(error).__name__}: {error}"))
