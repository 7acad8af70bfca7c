"""Kits of NVFlare: certificates and addresses of server, sites and admin, and what they let run."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONTROLLER = "nvflare.collab.runtime.controller.CollabController"
EXECUTOR = "nvflare.collab.runtime.executor.CollabExecutor"
RELAY = "lkd.flare.relay.FrameRelay"
CAMERA = "lkd.flare.camera.CameraSite"
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


def close(kit: Path) -> None:
    """Lets a kit's owner run nothing but lkd's own two classes, and no code that comes with a job.

    Args:
        kit: Folder of a server's or a site's kit.
    """
    serves = (kit / "startup/fed_server.json").is_file()
    resources = json.loads((kit / "local/resources.json.default").read_text(encoding="utf-8"))
    own = [part["path"] for part in resources["components"]]
    resources["class_allow_list"] = [*([CONTROLLER, RELAY] if serves else [EXECUTOR, CAMERA]), *own]
    resources["class_list_enforcement_mode"] = "enforce"
    resources["allow_log_streaming"] = False  # else a site's log goes to the server
    rights = {"format_version": "1.0", "permissions": {"project_admin": {**RIGHTS, "byoc": "none"}}}
    text = json.dumps(resources).replace("/tmp/nvflare", str(kit / "storage"))  # its default is everybody's
    (kit / "local/resources.json").write_text(text, encoding="utf-8")
    (kit / "local/authorization.json").write_text(json.dumps(rights), encoding="utf-8")


def command(kit: Path) -> list[str]:
    """Returns the command that starts a server or a site in the foreground."""
    (kit / "transfer").mkdir(exist_ok=True)
    kind = "server" if (kit / "startup/fed_server.json").is_file() else "client"
    said: dict[str, Any] = json.loads((kit / f"startup/fed_{kind}.json").read_text(encoding="utf-8"))
    who = [] if kind == "server" else [f"uid={said['client']['fqsn']}"]
    found = re.search(r"\borg=(\S+)", (kit / "startup/sub_start.sh").read_text(encoding="utf-8"))
    org = f"org={found[1] if found else 'lkd'}"
    more = ["--set", "secure_train=true", *who, org, "config_folder=config"]
    module = f"nvflare.private.fed.app.{kind}.{kind}_train"
    return [sys.executable, "-u", "-m", module, "-m", str(kit), "-s", f"fed_{kind}.json", *more]


def write_job(folder: Path, address: str) -> Path:
    """Writes the job, which carries no code.

    Args:
        folder: Where to write.
        address: Path of the socket of the Trainer's process.
    """
    config = folder / "job/app/config"
    config.mkdir(parents=True, exist_ok=True)
    server = {
        "format_version": 2,
        "workflows": [{"id": "controller", "path": CONTROLLER, "args": {"server_obj_id": "_server"}}],
        "components": [{"id": "_server", "path": RELAY, "args": {"address": address}}],
    }
    executor = {"path": EXECUTOR, "args": {"client_obj_id": "_client"}}
    client = {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": executor}],
        "components": [{"id": "_client", "path": CAMERA, "args": {}}],
    }
    meta = {"name": "lkd", "resource_spec": {}, "min_clients": 1, "deploy_map": {"app": ["@ALL"]}}
    for path, content in (
        (config / "config_fed_server.json", server),
        (config / "config_fed_client.json", client),
        (folder / "job/meta.json", meta),
    ):
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder / "job"


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
