"""A run that another run starts: it ends with the one that started it, and reports a complete end."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CHILD = "LKD_CHILD_DONE"
"""Environment variable with the name of the file that is written at a complete end."""


def run(command: list[str], environment: Mapping[str, str], done: Path, patience: float = 60.0) -> int:
    """Runs lkd's command line to its end.

    The child's input is our pipe, which the system closes when we are gone, even killed; the child then ends
    as by SIGTERM.

    Args:
        command: The program and its arguments.
        environment: Its environment.
        done: File that a run writes at its complete end, and only then.
        patience: Seconds that the child has to save its state when this process is ended.

    Returns:
        The exit code.
    """
    done.unlink(missing_ok=True)
    given = {**environment, _CHILD: str(done.absolute())}
    with subprocess.Popen(command, env=given, stdin=subprocess.PIPE) as child:
        try:
            return child.wait()
        except BaseException:
            if child.stdin is not None:
                child.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                child.wait(patience)
            child.kill()
            raise


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
