"""A run that another run starts: it ends with the one that started it, and reports a complete end."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

GRACE = 5.0
"""Seconds in which a child may end by itself before it is told to."""
_CHILD = "LKD_CHILD_DONE"
"""Environment variable with the name of the file that is written at a complete end."""


class Child:
    """A run of lkd's command line, beside this process.

    The child's input is our pipe, which the system closes when we are gone, even killed; the child then ends
    as by SIGTERM.

    Args:
        command: The program and its arguments.
        environment: Its environment.
        done: File that a run writes at its complete end, and only then.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], done: Path) -> None:
        done.unlink(missing_ok=True)
        given = {**environment, _CHILD: str(done.absolute())}
        self._process = subprocess.Popen(command, env=given, stdin=subprocess.PIPE)

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def wait(self, stop: threading.Event | None = None) -> int:
        """Waits for the end of the child, and ends it if this process is ended.

        Args:
            stop: Ends the child when another thread sets it.

        Returns:
            The exit code.
        """
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return self._process.wait(None if stop is None else 0.2)
                if stop is not None and stop.is_set():
                    self.end()
        except BaseException:
            self.end()
            raise

    def end(self, patience: float = 60.0) -> None:
        """Ends the child.

        Args:
            patience: Seconds that it has to save its state.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)  # a signal from the terminal has reached the child, too
        if self._process.poll() is None:
            # not by closing the pipe: processes that were forked meanwhile hold its other end open
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._process.kill()
        self._process.wait()


def take_part() -> Path | None:
    """Watches, in the child, who started it.

    Returns the file to write at the end, or None without a waiting run.
    """
    done = os.environ.pop(_CHILD, None)  # other ranks and teachers of this run must not inherit it
    if done is None:
        return None
    threading.Thread(target=_watch, daemon=True).start()
    return Path(done)


def _watch() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
