"""What a camera or a server looks at before it starts, each in a sentence if it is wrong; nothing is written."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lkd.flare.kit import read_kit
from lkd.flare.kits import open_to_others

GIGABYTE = 1 << 30
FREE_DISK, FREE_MEMORY = 1.0, 1.0
"""Gigabytes that have to be free; a site has three processes, of which one has torch."""


def _kit(folder: Path) -> str:
    kit = read_kit(folder)
    told = f"kit of {'the server ' * (kit.kind == 'server')}{kit.name}"
    for path in (folder, folder / "local"):
        if not os.access(path, os.W_OK | os.X_OK):
            raise ValueError(f"kit={str(folder)!r}: {path} must be a folder that you can write.")
    if not open_to_others(kit):
        return told
    if kit.key.stat().st_uid != os.getuid() and os.getuid() != 0:
        raise ValueError(
            f"kit={str(folder)!r}: others can read its key, and it is not yours: chown it, or unpack it again."
        )
    return f"{told}, its key is readable by others until it joins"


def _versions(kit: Path) -> str:
    try:
        found = version("nvflare")
    except PackageNotFoundError:
        raise ValueError('NVFlare is not installed: pip install "lightning-kd[nvflare]".') from None
    if not found.startswith("2.9."):
        raise ValueError(f"NVFlare is {found}, and must be 2.9: pip install 'nvflare>=2.9,<2.10'.")
    return f"NVFlare {found}"


def _clock(kit: Path) -> str:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(read_kit(kit).certificate.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"kit={str(kit)!r}: its certificate cannot be read ({error}); unpack the kit again."
        ) from None
    first, last, now = certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
    if not first <= now <= last:
        raise ValueError(
            f"the certificate holds from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, and this clock says {now:%Y-%m-%d %H:%M}: "
            "set the clock, or ask for a new kit."
        )
    return f"certificate until {last:%Y-%m-%d}"


def _disk(kit: Path) -> str:
    free = shutil.disk_usage(kit).free / GIGABYTE
    if free < FREE_DISK:
        raise ValueError(f"{free:.2f} GB of the disk of {kit} are free, and {FREE_DISK:g} are needed.")
    return f"{free:.1f} GB of disk"


def _memory(kit: Path) -> str:
    import psutil  # NVFlare needs it, too

    free = psutil.virtual_memory().available / GIGABYTE
    if free < FREE_MEMORY:
        raise ValueError(f"{free:.2f} GB of memory are free, and {FREE_MEMORY:g} are needed.")
    return f"{free:.1f} GB of memory"


def _reachable(kit: Path) -> str:
    server = read_kit(kit)
    host, port = server.host, server.port
    if server.kind == "server":
        return f"will listen at {host}:{port}"
    try:
        socket.create_connection((host, port), timeout=5).close()
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"the server {host}:{port} does not answer ({error}): is it running, and does the firewall let you out?"
        ) from None
    return f"{host}:{port} answers"


CHECKS: dict[str, Callable[[Path], str]] = {
    "kit": _kit,
    "versions": _versions,
    "clock": _clock,
    "disk": _disk,
    "memory": _memory,
    "server": _reachable,
}


def look(kit: Path) -> Iterator[tuple[str, str, bool]]:
    """Yields for each check its name, what was found or what is wrong, and whether it is well.

    The later ones read the kit, so they are left out where it is none.
    """
    for name, check in CHECKS.items():
        try:
            yield name, check(kit), True
        except ValueError as error:
            yield name, str(error), False
            if name in ("kit", "versions"):
                return
