"""Server and sites of NVFlare, as the Trainer's process sees them: it submits a job and waits for its relay."""

import atexit
import contextlib
import io
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from lkd.flare.kits import ADMIN, SERVER, close, command, provision, write_job
from lkd.flare.local import LOCAL
from lkd.flare.reasons import reasons
from lkd.frames import unframe

OUTPUT = "output.txt"
HELLO = 10.0
"""Seconds within which a connection says whose it is."""


class Deployment:
    """Connection to a server of NVFlare, or one with sites on this machine.

    Args:
        kit: Folder of the admin's kit. Default: kits are made, and server and sites are processes here.
        sites: Number of sites.
        locals_: Local YAML of each site, as JSON, where they are processes here.
        timeout: Seconds until all have joined.
    """

    def __init__(self, kit: Path | None, sites: int, locals_: Sequence[str], timeout: float) -> None:
        self.sites, self.timeout = sites, timeout
        self._folder = Path(tempfile.mkdtemp(prefix="lkd_"))
        self._running: list[subprocess.Popen[bytes]] = []
        self._outputs: dict[str, Path] = {}  # of sites, then of the server, where they are here
        self.joined: queue.Queue[tuple[str, Connection]] = queue.Queue()
        self._session: Any = None
        self._job = ""
        self._listener = Listener(
            str(self._folder / "socket"), "AF_UNIX"
        )  # only this user can enter the folder
        self._open = True
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.close)  # the last resort, where nobody has closed it
        try:
            self.kit = self._rehearse(locals_) / ADMIN if kit is None else kit
            self._connect()
            self.submit()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):
                self._hear(self._listener.accept())
            time.sleep(0.01)  # not busy, where every call fails

    def _hear(self, pipe: Connection) -> None:
        """Takes a connection that says whose it is; any other is closed, and the next is waited for."""
        try:
            if pipe.poll(HELLO):
                self.joined.put((str(unframe(pipe.recv_bytes(1 << 16))[0]["site"]), pipe))
                return
        except (OSError, EOFError, ValueError, KeyError):
            pass
        pipe.close()

    def _rehearse(self, locals_: Sequence[str]) -> Path:
        names = [f"site-{number}" for number in range(self.sites)]
        kits = provision(self._folder, names)
        for name, local in zip([SERVER, *names], ["", *locals_], strict=True):
            path = kits / name / "camera.yaml"
            path.write_text(local, encoding="utf-8")
            self.start(kits / name, path)
        self._outputs = {name: kits / name / OUTPUT for name in [*names, SERVER]}
        return kits

    def start(self, kit: Path, local: Path) -> subprocess.Popen[bytes]:
        """Starts a server or a site on this machine, closed; its output is `OUTPUT` in its kit."""
        close(kit)
        with (kit / OUTPUT).open("ab") as output:
            process = subprocess.Popen(
                command(kit),
                env={**os.environ, LOCAL: str(local)},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=kit,
            )
        self._running.append(process)
        return process

    def _connect(self) -> None:
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        said = json.loads((self.kit / "startup/fed_admin.json").read_text(encoding="utf-8"))
        until, last = time.monotonic() + self.timeout, ""
        while time.monotonic() < until:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    self._session = new_secure_session(said["admin"]["username"], str(self.kit), timeout=5)
                while len(self.connected()) < self.sites and time.monotonic() < until:
                    time.sleep(0.3)
                if len(found := self.connected()) >= self.sites:
                    return
                last = (
                    f"{len(found)} of {self.sites} sites have joined ({', '.join(sorted(found)) or 'none'})"
                )
                break
            except Exception as error:  # NVFlare raises many
                last = f"{type(error).__name__}: {error}"
                time.sleep(0.3)
        raise RuntimeError(
            f"engine=NVFlare: not ready within start_timeout={self.timeout:g} seconds: {last}."
        )

    def connected(self) -> dict[str, float]:
        """Returns when the server has last heard of each site, in seconds since 1970."""
        found = self._session.get_system_info().client_info
        return {client.name: float(client.last_connect_time or 0.0) for client in found}

    def submit(self) -> None:
        """Submits the job, which puts all sites that are there in connection."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._job = self._session.submit_job(str(write_job(self._folder, str(self._folder / "socket"))))

    def gather(self, there: Collection[str] = ()) -> dict[str, Connection]:
        """Waits until the job has put all sites in connection; returns their connections by name.

        Args:
            there: Sites that are in connection already.

        Raises:
            RuntimeError: If the job ends before, or it takes too long.
        """
        until, found = time.monotonic() + self.timeout, dict[str, Connection]()
        while len({*found, *there}) < self.sites:
            try:
                name, pipe = self.joined.get(timeout=1.0)
                found[name] = pipe
            except queue.Empty:
                if (how := self.ended()) or time.monotonic() > until:
                    told = f"the job has ended ({how})" if how else f"start_timeout={self.timeout:g} is over"
                    raise RuntimeError(
                        f"engine=NVFlare: {len({*found, *there})} of {self.sites} sites work: {told}; {reasons(self._outputs)}."
                    ) from None
        return found

    def ended(self) -> str:
        """Returns how the job ended; empty while it runs."""
        status = str(self._session.get_job_meta(self._job).get("status", ""))
        return status if status.startswith("FINISHED") else ""

    def pids(self) -> list[int]:
        """Ids of the processes of server and sites on this machine, and of all that they have started."""
        import psutil  # NVFlare needs it, too

        found: list[int] = []
        for process in self._running:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
            found.append(process.pid)
        return found

    def close(self) -> None:
        """Ends the job, and what was started on this machine; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        atexit.unregister(self.close)
        if self._session is not None:
            with contextlib.suppress(Exception):
                if not self._running:
                    self._session.abort_job(self._job)
                self._session.close()
        with contextlib.suppress(OSError):
            Client(str(self._folder / "socket"), "AF_UNIX").close()
        self._listener.close()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for process in self._running:
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
