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
import time
from collections.abc import Collection, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lkd.flare.door import Door
from lkd.flare.job import write_job
from lkd.flare.kits import ADMIN, SERVER, close, command, provision
from lkd.flare.local import LOCAL
from lkd.flare.reasons import reasons

OUTPUT = "output.txt"
LOOK = 3.0
"""Seconds within which a site says what it works for."""
OTHERS = 60.0
"""Seconds that a new job waits for sites after the first of them."""


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
        self._session: Any = None
        self._job = ""
        self._jobs = 0
        self._door = Door(self._folder / "socket-0")  # only this user can enter the folder
        self._open = True
        atexit.register(self.close)  # the last resort, where nobody has closed it
        try:
            self.kit = self._rehearse(locals_) / ADMIN if kit is None else kit
            self._connect()
            self.submit()
        except BaseException:
            self.close()
            raise

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

    @property
    def joined(self) -> "queue.Queue[tuple[str, Connection]]":
        """Connections that nobody has fetched yet, each with the name of its site."""
        return self._door.joined

    def _login(self) -> None:
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        said = json.loads((self.kit / "startup/fed_admin.json").read_text(encoding="utf-8"))
        with contextlib.redirect_stdout(io.StringIO()):
            self._session = new_secure_session(said["admin"]["username"], str(self.kit), timeout=5)

    def _connect(self) -> None:
        until, last = time.monotonic() + self.timeout, ""
        while time.monotonic() < until:
            try:
                self._login()
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

    def submit(self, sites: Sequence[str] = ()) -> None:
        """Submits the job, which puts sites in connection; by default all that are there."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._job = self._session.submit_job(str(write_job(self._folder, self._door.address, sites)))

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

    def returned(self, gone: Mapping[str, float]) -> list[str]:
        """Finds sites that the server hears of again, and that have no part in the job any more.

        A site that was frozen or cut off still has its part, and comes back by itself.

        Args:
            gone: Names of sites, and when each was lost, in seconds since 1970.
        """
        try:
            heard = [name for name, when in self.connected().items() if when > gone.get(name, when)]
            if not heard:
                return []
            self._session.set_timeout(LOOK)
            told = self._session.get_client_job_status(sorted(heard)) or []
            self._session.unset_timeout()
        except Exception:  # NVFlare raises many; a session ends after some time without a question
            with contextlib.suppress(Exception):
                self._login()
            return []
        answered = {one["client_name"] for one in told if one["status"] not in ("no_reply", "error")}
        return sorted(answered - {one["client_name"] for one in told if one.get("job_id") == self._job})

    def renew(self, sites: Sequence[str]) -> dict[str, Connection]:
        """Ends the job, and begins another with these sites; returns the connections of those that came.

        Raises:
            RuntimeError: If nobody came.
        """
        self._door.close()
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            self._session.abort_job(self._job)
        self._await_end()
        self._jobs += 1
        self._door = Door(self._folder / f"socket-{self._jobs}")
        self.submit(sites)
        until, found = time.monotonic() + self.timeout, dict[str, Connection]()
        while set(sites) - found.keys() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                name, pipe = self.joined.get(timeout=1.0)
                found[name] = pipe
                until = min(until, time.monotonic() + OTHERS)
        if not found:
            raise RuntimeError(
                f"engine=NVFlare: no site came into the new job within {self.timeout:g} seconds; {reasons(self._outputs)}."
            )
        return found

    def _await_end(self) -> None:
        """Waits until the job has ended, for as long as one may take to begin: the next has a time of its own."""
        until = time.monotonic() + self.timeout
        while time.monotonic() < until:
            try:
                if self.ended():
                    return
            except Exception:  # NVFlare raises many; a session ends after some time without a question
                with contextlib.suppress(Exception):
                    self._login()
            time.sleep(0.2)

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
        self._door.close()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for process in self._running:
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
