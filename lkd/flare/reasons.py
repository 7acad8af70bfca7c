"""Why a job of NVFlare has ended, out of what its server and sites have printed."""

import re
from collections.abc import Mapping
from pathlib import Path

EXCEPTION = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt): .+")
LAST = 1 << 18
"""Bytes at the end of an output that are looked at."""
LONGEST = 300


def last_exception(output: Path) -> str:
    """Returns the line of the last exception that is in an output; empty where there is none.

    NVFlare's own, which enclose the reason, count only where there is no other.
    """
    try:
        text = output.read_bytes()[-LAST:].decode(errors="replace")
    except OSError:
        return ""
    found = [line for line in text.splitlines() if EXCEPTION.match(line)]
    found = [line for line in found if not line.startswith("nvflare.")] or found
    return found[-1][:LONGEST].rstrip(".") if found else ""


def reasons(outputs: Mapping[str, Path]) -> str:
    """Returns what the first has printed as its last exception, after its name, or where to look.

    Args:
        outputs: Output of each server and site by name, the likeliest first; none where they are on other
            machines.
    """
    for name, output in outputs.items():
        if line := last_exception(output):
            return f"{name}: {line}"
    if outputs:
        return f"nothing of it is in {', '.join(map(str, outputs.values()))}"
    return "log.txt in the server's kit, and the newest */log.txt in the kit of each site, say why"
