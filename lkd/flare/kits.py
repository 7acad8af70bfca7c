"""Kits of NVFlare: certificates and addresses of server, sites and admin, and what they let run."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lkd.flare.job import CAMERA, CONTROLLER, EXECUTOR, RELAY
from lkd.flare.kit import Kit, read_kit

ONE_JOB = "lkd.flare.one_job.OneJob"
ADMIN = "admin@lkd.org"
SERVER = "localhost"
RIGHTS = {"submit_job": "any", "manage_job": "any", "view": "any", "operate": "any", "download_job": "any"}
"""What an admin may do: nobody may bring code (`byoc`), run a shell, or clone a job."""


def provision(folder: Path, sites: Sequence[str]) -> Path:
    """Makes kits for a server on this machine, sites, and an admin, with certificates of their own.

    Args:
        folder: Where to write.
        sites: Names of the sites.

    Returns:
        The folder of the kits, one folder each.
    """
    server, admin = _free_ports(2)
    base = "nvflare.lighter.impl"
    project = {
        "api_version": 3,
        "name": "lkd",
        "participants": [
            {"name": SERVER, "type": "server", "org": "lkd", "fed_learn_port": server, "admin_port": admin},
            *({"name": name, "type": "client", "org": "lkd"} for name in sites),
            {"name": ADMIN, "type": "admin", "org": "lkd", "role": "project_admin"},
        ],
        "builders": [
            {"path": f"{base}.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
            {"path": f"{base}.static_file.StaticFileBuilder", "args": {"config_folder": "config", "scheme": "grpc"}},
            {"path": f"{base}.cert.CertBuilder"},
            {"path": f"{base}.signature.SignatureBuilder"},
        ],
    }  # fmt: skip
    path = folder / "project.yml"
    path.write_text(json.dumps(project), encoding="utf-8")
    command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", str(path), "-w", str(folder / "ws")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    kits = folder / "ws/lkd/prod_00"
    if made.returncode or not kits.is_dir():
        raise RuntimeError(f"engine=NVFlare: no kits were made: {made.stderr[-500:] or made.stdout[-500:]}")
    return kits


def close(folder: Path) -> None:
    """Lets a kit run nothing but lkd's own job: its two classes, and no code that comes with a job.

    Args:
        folder: Folder of a server's or a site's kit.

    Raises:
        ValueError: If it is no kit, or cannot be written.
    """
    kit = read_kit(folder)
    own = [part["path"] for part in kit.resources["components"]]
    allowed = [CONTROLLER, RELAY] if kit.kind == "server" else [EXECUTOR, CAMERA]
    resources = {
        **kit.resources,
        "class_allow_list": [*allowed, *own],
        "class_list_enforcement_mode": "enforce",
        "allow_log_streaming": False,  # else a site's log goes to the server
        "app_validator": {"path": ONE_JOB, "args": {}},
    }
    rights = {"format_version": "1.0", "permissions": {"project_admin": {**RIGHTS, "byoc": "none"}}}
    text = json.dumps(resources).replace(
        "/tmp/nvflare", str(folder / "storage")
    )  # its default is everybody's
    try:
        if open_to_others(kit):
            kit.key.chmod(0o600)
        (folder / "local/resources.json").write_text(text, encoding="utf-8")
        (folder / "local/authorization.json").write_text(json.dumps(rights), encoding="utf-8")
        (folder / "transfer").mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"kit={str(folder)!r} cannot be closed: {error.filename}: {error.strerror}; it must belong to the user who starts it."
        ) from None


def open_to_others(kit: Kit) -> bool:
    """Tells whether others can read a kit's key."""
    return kit.key.stat().st_mode & 0o077 != 0


def command(folder: Path) -> list[str]:
    """Returns the command that starts a server or a site in the foreground, after `close`."""
    kit = read_kit(folder)
    who = [] if kit.kind == "server" else [f"uid={kit.name}"]
    more = ["--set", "secure_train=true", *who, f"org={kit.org}", "config_folder=config"]
    module = f"nvflare.private.fed.app.{kit.kind}.{kit.kind}_train"
    return [sys.executable, "-u", "-m", module, "-m", str(folder), "-s", f"fed_{kit.kind}.json", *more]


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
