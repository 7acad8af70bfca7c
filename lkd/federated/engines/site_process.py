"""The process of a site that trains: it knows its data and allow-list from a local file, all else from messages."""

import functools
import logging
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lkd.federated.client.elsewhere import ClientSide, Place, WorkerJob
from lkd.federated.client.incoming import check_command, check_message, check_start
from lkd.federated.client.state_files import StateFiles
from lkd.federated.engines.local_file import LocalFile
from lkd.federated.engines.placed import Placed, Seat
from lkd.federated.engines.plan import make_callbacks, make_federation
from lkd.federated.engines.site_answers import kept, listed
from lkd.federated.engines.worker_process import do
from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.wire import pack, unpack
from lkd.frames import frame, unframe


class SiteProcess:
    """What a site does with a command.

    Args:
        local: The site's own file, or its path. It is read with the first command, so that the server is told
            what is wrong with it.
    """

    def __init__(self, local: LocalFile | Path) -> None:
        self._local, self._data = local, None
        self._side: ClientSide | None = None
        self._seats: Mapping[int, Seat] = {}

    @property
    def local(self) -> LocalFile:
        """The site's own file."""
        if isinstance(self._local, Path):
            self._local = LocalFile.read(self._local)
        return self._local

    @functools.cached_property
    def _store(self) -> StateFiles:
        folder = self.local.folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ValueError(f"folder={str(folder)!r} cannot be made: {error.strerror}.") from None
        return StateFiles(folder)

    @property
    def data(self) -> Any:
        """The site's data module, as its file describes it."""
        if self._data is None:
            self._data = self.local.make_data()
        return self._data

    def __call__(self, data: bytes) -> bytes:
        """Answers a frame by a frame; whatever goes wrong is an `error` in it."""
        client = -1
        try:
            command, body = unframe(data)
            client = command["client"] if isinstance(command.get("client"), int) else -1
            head, told = self._do(command, body)
            return frame(head, told)
        except (Exception, SystemExit) as error:
            sort = isinstance(error, ValueError | TypeError | SystemExit | ArgumentError)
            text = str(error) if sort else f"{type(error).__name__}: {error}"
            return frame({"error": text or type(error).__name__, "refused": sort, "client": client})

    def _do(self, command: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        match command["do"]:
            case "info":
                return {"clients": self._infos()}, b""
            case "begin":
                self._begin(command, unpack(body, Message))
            case "keep":
                self._store.keep(str(command["group"]))
            case "states":
                whose, groups = listed(self._store.state_dict())
                return {"kept": whose}, pack(Reply(groups))
            case "restore":
                self._restore(command.get("kept"), unpack(body, Message))
            case _ if self._side is None:
                raise ValueError("this site has not begun: its server has to describe the federation first.")
            case _:
                check_command(command, self._side.host)
                if command["do"] == "start":
                    check_start(unpack(body, Message), self._side.host)
                if command["do"] == "answer":
                    check_message(unpack(body, Message), self._side.host, command["client"])
                return {}, do(self._side, command, body) or b""
        return {}, b""

    def _infos(self) -> list[dict[str, Any]]:
        """Describes the clients whose data are here, by their numbers in these data."""
        self.data.prepare_data()
        self.data.setup("fit")
        clients = self.data.clients
        numbers = self.local.numbers(len(clients))
        return [ClientInfo.of(clients[[number]][0]).as_dict() for number in numbers]

    def _begin(self, command: Mapping[str, Any], start: Message) -> None:
        if command["forget"]:
            self._store.load_state_dict({})
        if command["keep"] is not None:
            self._store.keep(str(command["keep"]))
        self._side = None  # its memory is free before the next is built
        federation = make_federation(command["plan"], self.local.allow)
        callbacks = make_callbacks(command["plan"], self.local.allow)
        told = command["place"]
        place = Place(
            accelerator=self.local.accelerator,
            devices=1,
            precision=str(told["precision"]),
            max_epochs=told["max_epochs"],
            rounds=float(told["rounds"]),
            fits=bool(told["fits"]),
            threads=self.local.threads,
            folder=self.local.folder,
        )
        assert federation.architectures  # its first access describes it
        description = federation.engine.host.description
        seen = Placed.of(command["clients"], command["population"])
        side = ClientSide(WorkerJob(description, place, self.data, callbacks, seen))
        here = [slot.worker.summary() for slot in side.host.slots]
        if (differs := unlike(description.summary(here), command["like"])) is not None:
            raise ValueError(
                f"the description gives another federation than the server's: {differs}; give the server's own."
            )
        check_start(start, side.host)
        for kind, tensors in start.tensors.items():
            side.host.slots[int(kind)].worker.set_start(tensors)
        self._side, self._seats = side, seen.seats

    def _restore(self, whose: Any, message: Message) -> None:
        try:
            self._store.load_state_dict(kept(whose, message, self._seats))
        except ValueError as error:
            raise ValueError(f"of what the server says clients have kept, {error}") from error


def unlike(here: Any, there: Any, where: str = "") -> str | None:
    """Says where two descriptions in plain values differ first; None where they are the same.

    Example:
        >>> unlike({"seed": 1, "local": [1, 2]}, {"seed": 1, "local": [1, 3]})
        'local.1 is 2 here and 3 there'
    """
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        pairs: Sequence[tuple[Any, Any, Any]] = [(key, here[key], there[key]) for key in here]
    elif isinstance(here, list | tuple) and isinstance(there, list | tuple) and len(here) == len(there):
        pairs = [(key, one, other) for key, (one, other) in enumerate(zip(here, there, strict=True))]
    else:
        return (
            None
            if here == there
            else f"{where.strip('.') or 'it'} is {here!r:.200} here and {there!r:.200} there"
        )
    return next((found for key, one, other in pairs if (found := unlike(one, other, f"{where}.{key}"))), None)


def main() -> None:
    """Answers frames until the pipe is closed."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # the federation's process has shown them
    pipe, answers = Connection(int(sys.argv[1])), SiteProcess(Path(sys.argv[2]))
    while True:
        try:
            data = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send_bytes(answers(data))


if __name__ == "__main__":
    main()
