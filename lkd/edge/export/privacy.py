"""Differential privacy of a checkpoint's weights, for the card beside a file."""

from typing import Any

from lkd.checkpoint_io import read
from lkd.checkpoints import FEDERATION


def privacy_of(ckpt_path: str, client: str | None = None) -> dict[str, Any]:
    """Returns the entry `privacy` of a card: what a federation's weights tell of its clients at most.

    Args:
        ckpt_path: The checkpoint.
        client: Name of the client whose model the file is; None for the server's.

    Returns:
        `{"privacy": {...}}`; empty for a run without differential privacy, and for all other checkpoints.
    """
    spent = (read(ckpt_path).get(FEDERATION) or {}).get("privacy")
    if spent is None:
        return {}
    told = {
        "unit": "client",
        "epsilon": spent["epsilon"],  # null if it is infinite
        "delta": spent["delta"],
        "rounds": sum(rows[-1] for rows in spent["rounds"]),
        "mechanism": spent["mechanism"],
    }
    if spent["secret"] is None:
        told["only if"] = (
            "nobody knows the seeds of run and data, which provenance may have here: ClientDP(secret=True)"
        )
    if client is not None:
        told["not of"] = f"client {client}, whose own layers this file has"
    return {"privacy": told}
