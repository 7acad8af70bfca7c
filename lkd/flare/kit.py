"""A kit of NVFlare, as its folder says it: read once, so that what is wrong is one sentence and no traceback."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kit:
    """What is read of a server's or a site's kit.

    Attributes:
        folder: Its folder.
        kind: `"server"` or `"client"`.
        name: Name of the site; of a server, that of its folder.
        host: Where the server is.
        port: Its port.
        org: Organization of its owner.
        resources: What NVFlare gives it as resources.
    """

    folder: Path
    kind: str
    name: str
    host: str
    port: int
    org: str
    resources: dict[str, Any]

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / f"startup/{self.kind}.key"

    @property
    def certificate(self) -> Path:
        """Its certificate."""
        return self.folder / f"startup/{self.kind}.crt"


def serves(folder: Path) -> bool:
    """Tells whether a folder looks like a server's kit."""
    return (folder / "startup/fed_server.json").is_file()


def read_kit(folder: Path) -> Kit:
    """Reads a kit, and writes nothing.

    Args:
        folder: Its folder.

    Raises:
        ValueError: If it is no kit of a server or site; the message says what is wrong.
    """
    kind = "server" if serves(folder) else "client"
    try:
        for name in (f"{kind}.crt", f"{kind}.key", "rootCA.pem"):
            with (folder / "startup" / name).open("rb"):
                pass
        said = _json(folder / f"startup/fed_{kind}.json")
        resources = _json(folder / "local/resources.json.default")
        start = (folder / "startup/sub_start.sh").read_text(encoding="utf-8")
        host, _, port = str(_at(said, "servers", 0, "service", "target")).rpartition(":")
        parts = _at(resources, "components")
        for place in range(len(parts) if isinstance(parts, list) else 1):
            _at(parts, place, "path")
        if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
            raise _KitError(f"its server is at {host}:{port}, which is no address")
        name = str(_at(said, "client", "fqsn")) if kind == "client" else folder.name
    except (OSError, _KitError, UnicodeDecodeError) as error:
        raise ValueError(_sentence(folder, kind, error)) from None
    found = re.search(r"\borg=(\S+)", start)
    return Kit(folder, kind, name, host, int(port), found[1] if found else "lkd", resources)


class _KitError(Exception):
    """Error in what a kit's files say."""


def _sentence(folder: Path, kind: str, error: Exception) -> str:
    what = str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        what = f"it lacks {Path(error.filename).relative_to(folder)}"
    elif isinstance(error, OSError):
        what = f"{error.filename} cannot be read ({error.strerror})"
    whose = "server" if kind == "server" else "site"
    return f"kit={str(folder)!r} is no kit of a {whose}: {what}; unpack the kit that was given for it, as its owner."


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _KitError(f"{path.name} is no JSON ({error})") from None


def _at(value: Any, *keys: str | int) -> Any:
    for key in keys:
        if isinstance(value, str):  # of which a letter would be taken
            value = None
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            raise _KitError(f"its JSON has no {'.'.join(map(str, keys))}") from None
    return value
