"""A site's half of a job of NVFlare: hands frames to a process of its own, which trains."""

import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from nvflare.collab import collab

from lkd.flare.local import LOCAL
from lkd.frames import frame, unframe

COMMANDS = ("info", "begin", "start", "answer", "undo", "keep", "states", "restore")
"""All that a server can ask for."""


class CameraSite:
    """Site whose training is in a process of its own, so that its end is not the end of the job.

    What comes over the network is a command of `COMMANDS` with tensors and plain values. It is never
    unpickled, here or in the process that trains.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection
        self._again: dict[str, bytes] = {}  # what a new process is told, so that it goes on as the former one
        self._lock = threading.Lock()

    @collab.publish
    def ping(self) -> bool:
        """Says that the site is there, also while it works."""
        return True

    @collab.publish
    def answer(self, data: bytes) -> bytes:
        """Answers a frame by a frame; whatever goes wrong is an `error` in it."""
        try:
            command, body = unframe(data)
            if command.get("do") not in COMMANDS:
                raise ValueError(f"a camera does {', '.join(COMMANDS)}, and not {command.get('do')!r:.40}")
        except ValueError as error:
            return frame({"error": str(error), "refused": True})
        with self._lock:
            try:
                if command["do"] not in ("info", "begin") and not self._lives():
                    for former in self._again.values():
                        if why := unframe(self._ask(former))[0].get("error"):  # its file, say, was changed
                            self._end("")
                            return frame({"error": why, "client": command.get("client", -1)})
                answer = self._ask(data)
                if command["do"] == "begin":  # what its clients keep is not to be forgotten another time
                    self._again = {"begin": frame({**command, "forget": False, "keep": None}, body)}
                elif command["do"] == "start":
                    self._again["start"] = data
                return answer
            except TimeoutError as error:
                told = self._end(f"{error}, so its training process was ended")
            except (EOFError, OSError) as error:
                told = self._end(f"its training process ended ({type(error).__name__})")
            if command["do"] == "answer" and "begin" in self._again:
                undo = {"do": "undo", "client": command.get("client"), "mark": command.get("mark", 0)}
                self._again["undo"] = frame(undo)  # what its client may have kept of it does not count
            return frame({"error": told, "client": command.get("client", -1)})

    def _lives(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _ask(self, data: bytes) -> bytes:
        """Asks the process that trains, which is started where it is not there; each command has its limit."""
        if not self._lives():
            self._end("")
            self._pipe, theirs = Pipe()
            start = [sys.executable, "-m", "lkd.federated.engines.site_process", str(theirs.fileno())]
            with theirs:
                self._child = subprocess.Popen(
                    [*start, os.environ[LOCAL]], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
        command = unframe(data)[0]
        limit = command.get("limit")
        within = limit if isinstance(limit, int | float) else None
        if not (self._hand_over(data, within) and self._pipe.poll(within)):
            raise TimeoutError(f"{command['do']!r} was not done within {limit:g} seconds")
        return self._pipe.recv_bytes()

    def _hand_over(self, data: bytes, limit: float | None) -> bool:
        """Writes to the process that trains; returns whether it has read, and is ended where it has not."""
        if limit is None:
            self._pipe.send_bytes(data)
            return True
        assert self._child is not None
        late = threading.Timer(limit, self._child.kill)  # a pipe has no limit of its own for writing
        late.start()
        try:
            self._pipe.send_bytes(data)
        except OSError:
            if late.is_alive():  # it has died by itself
                raise
            return False
        finally:
            late.cancel()
        return True

    def _end(self, why: str) -> str:
        if self._child is None:
            return why
        self._pipe.close()
        self._child.kill()
        code, self._child = self._child.wait(), None
        return f"{why}, exit code {code}" if why else why

    @collab.final
    def close(self) -> None:
        """Ends the process that trains, with the job."""
        with self._lock:
            self._end("")

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a camera is not copied.")
