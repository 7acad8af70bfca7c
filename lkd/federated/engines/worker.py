"""A worker process of `Processes`, as this process sees it."""

import contextlib
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any, cast

from lkd.federated.engines.worker_process import serve
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.wire import unpack
from lkd.frames import frame


class WorkerProcess:
    """Worker process with the pipe to it."""

    def __init__(self) -> None:
        self._process: Any = None
        self.pipe: Connection = cast(Connection, None)

    @property
    def lives(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.is_alive()

    def begin(self) -> None:
        """Starts the process, if it is not alive."""
        if self.lives:
            return
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, command: dict[str, Any], body: bytes = b"") -> None:
        """Sends a command; if the process has died, that is noticed when it should answer."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(frame(command, body))

    def receive(self, seconds: float) -> Reply | None:
        """Returns its reply; None if it ends or takes longer."""
        try:
            return unpack(self.pipe.recv_bytes(), Reply) if self.pipe.poll(seconds) else None
        except (EOFError, OSError):
            return None

    def read(self) -> Reply:
        """Reads the reply that has come in; EOFError or OSError if the process is gone."""
        return unpack(self.pipe.recv_bytes(), Reply)

    def end(self) -> str:
        """Ends the process; returns what became of it."""
        if self._process is None:
            return "its worker process ended"
        self.pipe.close()
        self._process.join(0.2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self._process = None
        return f"its worker process ended (exit code {code})"
