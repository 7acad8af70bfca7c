"""A site of NVFlare, as the Trainer's process sees it."""

import contextlib
import time
from collections.abc import Collection, Sequence
from multiprocessing.connection import Connection
from typing import Any, cast

from lkd.federated.engines.remote import GRACE
from lkd.federated.engines.site_answers import kept, listed
from lkd.federated.protocol.messages import Message, RefusalError, Reply
from lkd.federated.protocol.tensors import Groups
from lkd.federated.protocol.wire import pack, unpack
from lkd.frames import frame, unframe


class Site:
    """Site with the connection to it.

    Args:
        name: Its name.
        limit: Seconds that it may take for a command other than a client's work.

    Attributes:
        begun: Whether its clients can be asked.
        lost: When its last connection was given up, in seconds since 1970.
    """

    def __init__(self, name: str, limit: float) -> None:
        self.name, self.limit = name, limit
        self.pipe: Connection = cast(Connection, None)
        self.begun, self.lost = False, 0.0
        self._asked, self._mark, self._works_for = "", 0, -1

    @property
    def lives(self) -> bool:
        """Whether there is a connection."""
        return self.pipe is not None

    def join(self, pipe: Connection) -> None:
        """Takes a new connection."""
        self.end()
        self.pipe = pipe

    def begin(self) -> None:
        """Lets its clients be asked; one whose answer was lost forgets what it kept of it."""
        if self._works_for >= 0:
            self.send({"do": "undo", "client": self._works_for, "mark": self._mark, "quiet": True})
        self.begun, self._works_for = True, -1

    def send(self, command: dict[str, Any], body: bytes = b"") -> None:
        """Sends a command; if nobody is there any more, that is noticed when it should answer."""
        if self.pipe is None:
            return
        self._asked = command["do"]
        if self._asked == "answer":
            self._mark, self._works_for = self._mark + 1, command["client"]
            command = {**command, "mark": self._mark}
        if self._asked != "answer":
            command = {**command, "limit": self.limit}
        elif (timeout := command.get("timeout")) is not None:  # where a training hangs, the site ends it
            command = {**command, "limit": timeout + GRACE / 2}
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(frame(command, body))

    def read(self) -> Reply:
        """Reads a reply; EOFError or OSError if the site is gone, ValueError for no reply."""
        data = self.pipe.recv_bytes()
        self._works_for = -1
        head, body = unframe(data)
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
            RefusalError: If the site refuses it, or answers with what is no frame.
            ConnectionError: If the site could not do it, is gone, or takes too long, and has to join again.
        """
        if self.pipe is None:
            raise ConnectionError(f"site {self.name} is not there")
        try:
            data = self.pipe.recv_bytes() if self.pipe.poll(self.limit + GRACE) else None
        except (EOFError, OSError) as error:
            raise ConnectionError(self.end()) from error
        except BaseException:  # Ctrl+C: nobody reads this answer any more
            self.end()
            raise
        if data is None:
            self.end()
            raise ConnectionError(
                f"site {self.name} has not answered {self._asked!r} within start_timeout={self.limit:g} seconds"
            )
        try:
            head, body = unframe(data)
        except ValueError as error:
            raise RefusalError(f"site {self.name}: its answer to {self._asked!r} is {error}") from error
        if head.get("error"):
            text = f"site {self.name}: {str(head['error'])[:2000]}"
            raise (RefusalError if head.get("refused") is True else ConnectionError)(text)
        return head, body

    def states(self, clients: Collection[int]) -> dict[int, Groups]:
        """Asks for what the site's clients keep.

        Args:
            clients: The clients of this site.

        Raises:
            RefusalError: If it says what another site's client keeps, or what cannot be used.
            ConnectionError: See `told`.
        """
        head, body = self.ask({"do": "states"})
        try:
            return kept(head.get("kept"), unpack(body, Reply), clients)
        except ValueError as error:
            raise RefusalError(f"site {self.name}: of what its clients keep, {error}") from error

    def restore(self, states: dict[int, dict[str, Any]]) -> None:
        """Gives the site's clients what they have kept."""
        whose, groups = listed(states)
        self.ask({"do": "restore", "kept": whose}, pack(Message(groups)))

    def end(self) -> str:
        """Gives the connection up; returns what became of the site."""
        if self.pipe is not None:
            self.pipe.close()
            self.lost = time.time()
        self.pipe, self.begun = cast(Connection, None), False
        return f"site {self.name} is gone: it ended, or was cut off"


def told_by(sites: Sequence[Site]) -> dict[str, dict[str, Any]]:
    """Waits for the answers of sites that were asked together; returns what they say, by name.

    Raises:
        RefusalError: If a site refuses; see `Site.told`.
        ConnectionError: If a site is gone.
    """
    waiting, found = list(sites), dict[str, dict[str, Any]]()
    try:
        while waiting:
            found[waiting[0].name] = waiting[0].told()[0]
            waiting.pop(0)
    finally:  # after an error nobody reads these answers any more; they join again
        for site in waiting[1:]:
            site.end()
    return found
