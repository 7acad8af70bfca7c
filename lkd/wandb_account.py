"""Whether W&B can be used here: an account, and a connection.

Without them a run is offline, and does not wait.
"""

import logging
import netrc
import os
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

log = logging.getLogger(__name__)
_ASKED = 5.0  # seconds; W&B itself gives up after some minutes, with a traceback


def has_account() -> bool:
    """Returns whether W&B has an API key, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        files = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else _netrc_files()
        host = _address()[0]
        return any(netrc.netrc(file).authenticators(host) for file in files if file.is_file())
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        log.warning("The netrc file cannot be read (%s): W&B is taken to have no account here.", error)
        return False


def _netrc_files() -> list[Path]:
    try:
        return [Path.home() / ".netrc", Path.home() / "_netrc"]
    except RuntimeError:  # a container's user may have no home
        return []


def _address() -> tuple[str, int]:
    url = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)


def go_offline_if_unreachable() -> None:
    """Makes W&B run offline, with a notice, if its server does not answer."""
    if (
        "WANDB_MODE" in os.environ or urllib.request.getproxies()
    ):  # behind a proxy the server cannot be tested from here
        return
    host, port = _address()
    try:
        socket.create_connection((host, port), timeout=_ASKED).close()
    except OSError as error:
        os.environ["WANDB_MODE"] = "offline"
        log.warning(
            "W&B at %s cannot be reached (%s): this run is offline; `wandb sync` uploads it later.",
            host,
            error,
        )
