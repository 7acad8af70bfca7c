"""What `lkd doctor` found, as text."""

from collections.abc import Mapping
from typing import Any


def as_text(found: Mapping[str, Any]) -> str:
    """Returns the lines: what is there, then what is wrong.

    Args:
        found: What `lkd.doctor.examine` returns.
    """
    there = found["machine"]
    pairs = [
        ("lkd", found["lkd"]),
        ("Python", f"{found['python']}, {there['system']}"),
        (
            "processor",
            f"{there['processor']}, {there['cores']} cores, {there['vectors'] or 'vectors unknown'}",
        ),
        ("threads of torch", there["threads"]),
        ("GPU", "; ".join(there["gpus"]) or "none"),
        ("free", f"{there['free_disk_gb']} GB of disk, {there['free_memory_gb'] or 'unknown'} GB of memory"),
    ]
    lines = [f"{name:18} {value}" for name, value in pairs]
    lines += ["", "packages", *(f"  {n:22} {v or 'missing'}" for n, v in found["packages"].items())]
    lines += ["", "extras", *(f"  {name:22} {_extra(each)}" for name, each in found["extras"].items()), ""]
    lines += [f"warning: {sentence}" for sentence in found["warnings"]]
    lines += [f"wrong: {sentence}" for sentence in found["wrong"]]
    return "\n".join([*lines, "lkd can run." if found["ok"] else "lkd cannot run as it should."])


def _extra(each: Mapping[str, Any]) -> str:
    return "there" if each["complete"] else f"{each['command']}  (missing: {', '.join(each['missing'])})"
