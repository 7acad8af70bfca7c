"""A run that another run starts: it ends with the one that started it, and says when it has come to its end."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CHILD = "LKD_CHILD_DONE"
"""Environment variable that names the file which is written at the end of a whole run."""


def run(command: list[str], environment: Mapping[str, str], done: Path, patience: float = 60.0) -> int:
    """Runs lkd's command line to its end.

    The child has our pipe as its input, which the system closes when we are gone, even killed; then it ends as SIGTERM ends it.

    Args:
        command: The program and its arguments.
        environment: Its environment.
        done: What is written at the end of a whole run, and by nothing else.
        patience: Seconds that it has to save its state, where this process is ended.

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
    """In the child: watches who started it, and says what to write at the end; None in a run that nobody waits for."""
    done = os.environ.pop(
        _CHILD, None
    )  # ours alone: other ranks and teachers of this run are not what is waited for
    if done is None:
        return None
    threading.Thread(target=_watch, daemon=True).start()
    return Path(done)


def _watch() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
