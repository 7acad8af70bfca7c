"""The server's half of a job of NVFlare: carries frames between the Trainer's process and the sites."""

import threading
import time
from multiprocessing.connection import Client, Connection
from typing import Any

from nvflare.collab import collab

from lkd.frames import frame, unframe

EVERY = 3.0
"""Seconds between two looks at whether a working site is still there."""
PATIENCE = 8.0
"""Seconds within which a site says that it is there."""
LONG = 1e6
"""Seconds of a call without a limit, which only a client's work is."""
MARGIN = 2.0
"""Seconds beyond a limit, so that the site can say itself that it was reached."""


class FrameRelay:
    """Relay with a connection to the Trainer's process for each site; it reads nothing that passes.

    A site that is silent while it should work loses its connection, which the Trainer's process sees at once.
    Where it answers again, it gets a new one.

    Args:
        address: Path of the Trainer's socket, in a folder that only its user can read.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @collab.main
    def run(self) -> None:
        """Carries frames until the Trainer's process closes its socket."""
        threads = [threading.Thread(target=self._serve, args=(site,)) for site in list(collab.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self, site: Any) -> None:
        while self._is_there(site) is not None:
            try:
                with Client(self.address, "AF_UNIX") as pipe:
                    pipe.send_bytes(frame({"site": site.name}))
                    self._carry(pipe, site)
            except OSError:  # nobody listens any more
                return
            while self._is_there(site) is False:
                time.sleep(EVERY)

    def _carry(self, pipe: Connection, site: Any) -> None:
        """Returns when the Trainer's process has closed the connection, or the site is gone."""
        while True:
            try:
                data = pipe.recv_bytes()
            except (EOFError, OSError):
                return
            answer: list[bytes] = []
            call = threading.Thread(target=self._call, args=(site, data, answer), daemon=True)
            call.start()
            missed = 0
            while call.is_alive() and missed < 2:
                call.join(EVERY)
                if call.is_alive():
                    missed = 0 if self._is_there(site) else missed + 1
            if not answer:
                return
            if not unframe(data)[0].get("quiet"):
                try:
                    pipe.send_bytes(answer[0])
                except OSError:  # it came too late
                    return

    def _call(self, site: Any, data: bytes, answer: list[bytes]) -> None:
        limit = unframe(data)[0].get("limit")
        try:
            answer.append(site(timeout=LONG if limit is None else limit + MARGIN).answer(data))
        except Exception as error:
            print(f"{site.name}: {type(error).__name__}: {error}", flush=True)

    def _is_there(self, site: Any) -> bool | None:
        """Returns whether a site answers; None if the job is at its end."""
        try:
            return bool(site(timeout=PATIENCE).ping())
        except Exception as error:
            return None if type(error).__name__ == "RunAborted" else False
