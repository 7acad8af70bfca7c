"""Where a figure comes from: the version, the commit and the machine."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import lkd
from lkd.doctor.machine import machine


@dataclass(frozen=True)
class Origin:
    """What a figure was measured with.

    Attributes:
        lkd: Version of lkd.
        commit: Commit of lkd's repository, 12 hexadecimal digits, with `+` behind it if files differed from
            it; None outside of a repository, as of an installed wheel.
        torch: Version of torch.
        machine: Name of the processor, and of the GPUs, if there are any.
        date: Day of the measurement in UTC, as `"2026-01-31"`.
    """

    lkd: str
    commit: str | None
    torch: str
    machine: str
    date: str


def origin() -> Origin:
    """Returns what a figure of this moment is measured with.

    Example:
        >>> import lkd
        >>> origin().lkd == lkd.__version__
        True
    """
    folder = Path(lkd.__file__).parent
    there = machine(folder)
    return Origin(
        lkd=lkd.__version__,
        commit=commit_of(folder),
        torch=version("torch"),
        machine=", ".join([there["processor"], *there["gpus"]]),
        date=datetime.now(UTC).date().isoformat(),
    )


def commit_of(folder: Path) -> str | None:
    """Returns the commit of the repository that a package belongs to, with `+` if tracked files differ.

    Args:
        folder: Folder of the package. One that lies in a repository without being part of it, as in an
            environment there, has no commit.
    """
    if not _git(folder, "ls-files", "__init__.py"):
        return None
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    return commit + "+" * bool(_git(folder, "status", "--porcelain", "--untracked-files=no")) or None


def _git(folder: Path, *words: str) -> str:
    """Returns what git says; nothing where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
