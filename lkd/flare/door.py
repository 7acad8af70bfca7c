"""Where the relays of a job come in to the Trainer's process."""

import contextlib
import queue
import threading
import time
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from lkd.frames import unframe

HELLO = 10.0
"""Seconds within which a connection says whose it is."""


class Door:
    """Socket that takes a connection for each site; every job has one of its own, so that none of a former job comes in.

    Args:
        path: Where to make it, in a folder that only its user can enter.
    """

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.joined: queue.Queue[tuple[str, Connection]] = queue.Queue()
        self._listener = Listener(self.address, "AF_UNIX")
        self._open, self._lock = True, threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                self._hear(self._listener.accept())
            time.sleep(0.01)  # not busy, where every call fails

    def _hear(self, pipe: Connection) -> None:
        """Takes a connection that says whose it is; any other is closed, and the next is waited for."""
        try:
            name = str(unframe(pipe.recv_bytes(1 << 16))[0]["site"]) if pipe.poll(HELLO) else None
        except (OSError, EOFError, ValueError, KeyError):
            name = None
        with self._lock:  # who comes in while the door closes is hung up on, and does not wait for ever
            if name is not None and self._open:
                self.joined.put((name, pipe))
                return
        pipe.close()

    def close(self) -> None:
        """Lets nobody in any more, and hangs up on those that nobody has fetched."""
        with self._lock:
            self._open = False
        with contextlib.suppress(OSError):
            Client(self.address, "AF_UNIX").close()  # ends the wait for the next one
        self._listener.close()
        while not self.joined.empty():
            self.joined.get()[1].close()
