"""Notes of a release: the part of CHANGELOG.md that is about this version.

    python release/notes.py > dist/NOTES.md

Refuses a version that has no part of its own there, or that a tag already has.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(changelog: str, version: str) -> str:
    """Returns what the changelog says of a version.

    Args:
        changelog: Text of CHANGELOG.md.
        version: Version, as `"0.2.0"`.

    Raises:
        ValueError: If nothing is said of it, or something is said of no version yet.
    """
    parts = re.split(r"^## +(.+)$", changelog, flags=re.MULTILINE)
    said = {
        heading.split(" - ")[0].strip("[] "): body.strip()
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    if said.get("Unreleased"):
        raise ValueError(
            f"CHANGELOG.md has entries under Unreleased: put them under `## {version} - YYYY-MM-DD`, "
            "or raise lkd.__version__."
        )
    if not said.get(version):
        raise ValueError(
            f"CHANGELOG.md says nothing of lkd {version}; it has {', '.join(said) or 'no versions'}."
        )
    return said[version] + "\n"


def tagged(version: str) -> bool:
    """Tells whether the repository has a tag of the version, at another commit than this one."""
    there, here = (
        subprocess.run(
            ["git", "rev-list", "-n", "1", name], cwd=ROOT, capture_output=True, text=True, check=False
        )
        for name in (f"v{version}", "HEAD")
    )
    return there.returncode == 0 and there.stdout != here.stdout


def main() -> None:
    """Prints the notes of the version of the tree."""
    sys.path.insert(0, str(ROOT))
    from lkd import __version__

    if tagged(__version__):
        sys.exit(f"v{__version__} is a tag of another commit: raise lkd.__version__ and CITATION.cff.")
    try:
        print(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), __version__), end="")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
