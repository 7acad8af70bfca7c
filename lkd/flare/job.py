"""The one job of NVFlare that lkd submits, and that a kit takes once it is closed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONTROLLER = "nvflare.collab.runtime.controller.CollabController"
EXECUTOR = "nvflare.collab.runtime.executor.CollabExecutor"
RELAY = "lkd.flare.relay.FrameRelay"
CAMERA = "lkd.flare.camera.CameraSite"
SITE: dict[str, Any] = {
    "format_version": 2,
    "executors": [{"tasks": ["*"], "executor": {"path": EXECUTOR, "args": {"client_obj_id": "_client"}}}],
    "components": [{"id": "_client", "path": CAMERA, "args": {}}],
}
"""A site's half."""


def server_half(address: str) -> dict[str, Any]:
    """Returns the server's half.

    Args:
        address: Path of the socket of the Trainer's process.
    """
    return {
        "format_version": 2,
        "workflows": [{"id": "controller", "path": CONTROLLER, "args": {"server_obj_id": "_server"}}],
        "components": [{"id": "_server", "path": RELAY, "args": {"address": address}}],
    }


def write_job(folder: Path, address: str, sites: Sequence[str] = ()) -> Path:
    """Writes the job, which carries no code.

    Args:
        folder: Where to write.
        address: Path of the socket of the Trainer's process.
        sites: Names of the sites that it is for. Default: all that are there.
    """
    config = folder / "job/app/config"
    config.mkdir(parents=True, exist_ok=True)
    where = ["server", *sites] if sites else ["@ALL"]
    meta = {"name": "lkd", "resource_spec": {}, "min_clients": 1, "deploy_map": {"app": where}}
    for path, content in (
        (config / "config_fed_server.json", server_half(address)),
        (config / "config_fed_client.json", SITE),
        (folder / "job/meta.json", meta),
    ):
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder / "job"
