"""A site of NVFlare, as the Trainer's process sees it."""

import contextlib
from multiprocessing.connection import Connection
from typing import Any, cast

from lkd.federated.engines.remote import GRACE
from lkd.federated.protocol.messages import Message, RefusalError, Reply
from lkd.federated.protocol.wire import pack, unpack
from lkd.frames import frame, unframe


class Site:
    """Site with the connection to it.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.pipe: Connection = cast(Connection, None)
        self.begun = False

    @property
    def lives(self) -> bool:
        """Whether there is a connection."""
        return self.pipe is not None

    def join(self, pipe: Connection) -> None:
        """Takes a new connection."""
        self.end()
        self.pipe = pipe

    def send(self, command: dict[str, Any], body: bytes = b"") -> None:
        """Sends a command; if nobody is there any more, that is noticed when it should answer."""
        if self.pipe is None:
            return
        if (timeout := command.get("timeout")) is not None:  # where a training hangs, the site ends it
            command = {**command, "limit": timeout + GRACE / 2}
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(frame(command, body))

    def read(self) -> Reply:
        """Reads a reply; EOFError or OSError if the site is gone, ValueError for no reply."""
        head, body = unframe(self.pipe.recv_bytes())
        if head.get("error"):
            client = head.get("client")
            return Reply(
                client=client if isinstance(client, int) else -1,
                error=f"{str(head['error'])[:2000]} (site {self.name})",
                refused=head.get("refused") is True,
            )
        return unpack(body, Reply)

    def ask(self, command: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Sends a command and waits for the answer; see `told`."""
        self.send(command, body)
        return self.told()

    def told(self) -> tuple[dict[str, Any], bytes]:
        """Waits for the answer to a command.

        Raises:
            RefusalError: If the site refuses it.
            ConnectionError: If the site is gone.
        """
        if self.pipe is None:
            raise ConnectionError(f"site {self.name} is not there")
        try:
            head, body = unframe(self.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise ConnectionError(self.end()) from error
        if head.get("error"):
            raise RefusalError(f"site {self.name}: {str(head['error'])[:2000]}")
        return head, body

    def states(self) -> dict[int, dict[str, Any]]:
        """Asks for what the site's clients keep."""
        found: dict[int, dict[str, Any]] = {}
        for name, group in unpack(self.ask({"do": "states"})[1], Reply).tensors.items():
            client, _, of = name.partition("/")
            found.setdefault(int(client), {})[of] = group
        return found

    def restore(self, states: dict[int, dict[str, Any]]) -> None:
        """Gives the site's clients what they have kept."""
        groups = {f"{client}/{name}": group for client, of in states.items() for name, group in of.items()}
        self.ask({"do": "restore"}, pack(Message(groups)))

    def end(self) -> str:
        """Gives the connection up; returns what became of the site."""
        if self.pipe is not None:
            self.pipe.close()
        self.pipe, self.begun = cast(Connection, None), False
        return f"site {self.name} is gone: it ended, or was cut off"
