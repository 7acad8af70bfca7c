"""What a camera looks at before it joins, each in a sentence if it is wrong."""

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GIGABYTE = 1 << 30
FREE_DISK, FREE_MEMORY = 1.0, 1.0
"""Gigabytes that have to be free; a site has three processes, of which one has torch."""


def _kit(kit: Path) -> str:
    needed = [
        kit / "startup" / name for name in ("fed_client.json", "client.crt", "client.key", "rootCA.pem")
    ]
    if lacks := [path for path in needed if not path.is_file()]:
        raise ValueError(
            f"kit={str(kit)!r} lacks {lacks[0].relative_to(kit)}: unpack the kit that the server's owner gave you."
        )
    if (mode := needed[2].stat().st_mode & 0o077) != 0:
        needed[2].chmod(0o600)
    return f"kit of {_site(kit)}" + ", its key now readable by you alone" * (mode != 0)


def _site(kit: Path) -> str:
    return str(json.loads((kit / "startup/fed_client.json").read_text(encoding="utf-8"))["client"]["fqsn"])


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

    certificate = x509.load_pem_x509_certificate((kit / "startup/client.crt").read_bytes())
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
    said = json.loads((kit / "startup/fed_client.json").read_text(encoding="utf-8"))
    host, _, port = str(said["servers"][0]["service"]["target"]).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
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
