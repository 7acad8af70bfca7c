"""A process for a `fit`: a fork of one that has imported everything where that is safe, else a new one."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DRIVERS = ("/dev/nvidiactl", "/dev/kfd")


class Process(Protocol):
    """A process that runs a fit."""

    pid: int

    def code(self) -> int | None:
        """Returns its exit code; None until it has ended."""

    def wait(self, seconds: float) -> None:
        """Waits until it ends, or until so many seconds have passed."""


def start(arguments: list[str], log: Path, threads: int) -> Process:
    """Starts lkd's command line in a process and a session of its own.

    Importing torch and Lightning takes longer than many small runs, so on Linux all runs are forked from one
    server process that has already imported them. A GPU's driver does not survive a fork: with a GPU every
    run is a new process.

    Args:
        arguments: Arguments of the command line.
        log: File for its output.
        threads: Number of threads that it computes with.
    """
    if sys.platform == "linux" and not any(map(os.path.exists, DRIVERS)):
        return Forked(arguments, log, threads)
    return Started([sys.executable, "-m", "lkd", *arguments], log, threads)


def stop(process: Process) -> None:
    """Ends a process and all that it has started: first with SIGTERM, then with SIGKILL."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if process.code() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number) if hasattr(os, "killpg") else os.kill(process.pid, number)
            process.wait(5.0)


class Started:
    """A new process.

    Args:
        command: Command to run.
        log: File for its output.
        threads: Number of threads that it computes with.
    """

    def __init__(self, command: list[str], log: Path, threads: int) -> None:
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environment(threads),
                start_new_session=True,  # Ctrl-C shall reach the comparison alone, which ends its runs
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        self.pid = self._process.pid

    def code(self) -> int | None:
        """Returns its exit code; None until it has ended."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Waits until it ends, or until so many seconds have passed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


class Forked:
    """A fork of multiprocessing's fork server, which has imported lkd.

    Args:
        arguments: Arguments of lkd's command line.
        log: File for its output.
        threads: Number of threads that it computes with.
    """

    def __init__(self, arguments: list[str], log: Path, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["lkd.lightning_cli"])
        environment, before = _environment(threads), dict(os.environ)
        given = (arguments, str(log.resolve()), os.getcwd(), environment, threads)
        self._process = context.Process(target=_fit, args=given)
        try:
            os.environ.update(environment)  # the server, if this is the first, reads the number of threads
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def code(self) -> int | None:
        """Returns its exit code; None until it has ended."""
        return self._process.exitcode

    def wait(self, seconds: float) -> None:
        """Waits until it ends, or until so many seconds have passed."""
        self._process.join(seconds)


def _end_with_parent() -> None:
    """Lets Linux end this process when its parent dies, even of SIGKILL, which no process can handle."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(THREADS, str(threads)), "PYTHONUNBUFFERED": "1"}


def _fit(arguments: list[str], log: str, folder: str, environment: dict[str, str], threads: int) -> None:
    """Sets up a fork as a new process would be, and runs the fit in it."""
    os.setsid()
    _end_with_parent()  # the fork server, which ends with the comparison
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    import torch

    import lkd.__main__
    from lkd.cli import main

    torch.set_num_threads(threads)
    sys.argv = [lkd.__main__.__file__, *arguments]  # further ranks are started by it
    main()
