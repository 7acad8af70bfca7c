"""`lkd doctor`: what is installed and on which machine, and what of it stops lkd, or is known to be bad."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lkd import __version__
from lkd.doctor.combinations import known_bad
from lkd.doctor.finding import Finding
from lkd.doctor.imports import importable, links
from lkd.doctor.machine import machine, scarce
from lkd.doctor.requirements import Requirements
from lkd.doctor.text import as_text


def examine() -> dict[str, Any]:
    """Looks at the installation and the machine.

    Returns:
        Plain data: `ok` (false if something stops lkd), `wrong` and `warnings` (sentences), `lkd` and `python`
        (versions), `packages` (name: version or None), `extras` (name: `complete`, `missing` and `command`) and
        `machine`.
    """
    required = Requirements.read()
    there = machine(Path.cwd())
    findings: list[Finding] = [
        *required.findings(),
        *links(),
        *importable(),
        *known_bad(required.installed, there),
        *scarce(there),
    ]
    return {
        "ok": not any(each.stops for each in findings),
        "wrong": [each.sentence for each in findings if each.stops],
        "warnings": [each.sentence for each in findings if not each.stops],
        "lkd": __version__,
        "python": sys.version.split()[0],
        "packages": required.packages(),
        "extras": required.extras(),
        "machine": there,
    }


def run(args: list[str]) -> None:
    """Prints what was found.

    Args:
        args: Arguments of the command line after `doctor`.

    Raises:
        SystemExit: With code 1 if something stops lkd.
    """
    parser = argparse.ArgumentParser("python cli.py doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")
    given = parser.parse_args(args)
    found = examine()
    print(json.dumps(found, indent=2) if given.json else as_text(found))
    if not found["ok"]:
        sys.exit(1)
