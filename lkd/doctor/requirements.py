"""What lkd requires, by its own metadata, and what of it is installed in which version."""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from lkd.doctor.finding import Finding

DISTRIBUTION = "lightning-kd"
PROJECT = (
    Path(__file__).parents[2] / "pyproject.toml"
)  # in the repository, where it is newer than what is installed
OLDEST = (3, 11)
LEFT_OUT = ("dev",)  # for who works on lkd itself


@dataclass(frozen=True)
class Requirements:
    """The requirements of lkd and of each extra.

    Attributes:
        core: Lines such as `"torch>=2.7"`; None if they are not known, since lkd is neither installed nor in its
            repository.
        optional: The same by extra.
    """

    core: list[str] | None
    optional: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Requirements":
        """Reads them from the repository, or from what is installed."""
        if PROJECT.is_file():
            project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
            optional = {k: v for k, v in project["optional-dependencies"].items() if k not in LEFT_OUT}
            return cls(project["dependencies"], optional)
        try:
            found = metadata.metadata(DISTRIBUTION)
        except metadata.PackageNotFoundError:
            return cls(None)
        lines = [line.partition(";") for line in metadata.requires(DISTRIBUTION) or ()]
        extras = [name for name in found.get_all("Provides-Extra") or () if name not in LEFT_OUT]
        return cls(
            [line.strip() for line, _, marker in lines if "extra" not in marker],
            {e: [line.strip() for line, _, m in lines if f'"{e}"' in m.replace("'", '"')] for e in extras},
        )

    @property
    def installed(self) -> dict[str, str]:
        """The versions of all that is installed of what lkd requires or can use."""
        names = [_name(line) for lines in (self.core or [], *self.optional.values()) for line in lines]
        return {name: version for name in names if (version := version_of(name)) is not None}

    def packages(self) -> dict[str, str | None]:
        """Returns what the core needs, with its version, None where it is missing."""
        return {_name(line): version_of(_name(line)) for line in self.core or ()}

    def extras(self) -> dict[str, Any]:
        """Returns for each extra whether it is complete, what is missing and the command that installs it."""
        found = {}
        for name, lines in self.optional.items():
            missing = [line for line in lines if not _fits(line)]
            command = f'pip install "{DISTRIBUTION}[{name}]"'
            found[name] = {"complete": not missing, "missing": missing, "command": command}
        return found

    def findings(self) -> Iterator[Finding]:
        """Yields what is missing of the core, or in a version that lkd does not run with."""
        if sys.version_info < OLDEST:
            wanted = ".".join(map(str, OLDEST))
            yield Finding(
                f"Python {sys.version.split()[0]} is too old: lkd needs {wanted} or newer.", stops=True
            )
        if self.core is None:
            yield Finding(
                f"lkd's requirements are not known, since it is not installed: pip install {DISTRIBUTION}."
            )
        if version_of("packaging") is None:
            yield Finding(
                "packaging is missing, by which versions are compared: pip install packaging.", stops=True
            )
        for line in self.core or ():
            if not _fits(line):
                there = version_of(_name(line)) or "missing"
                yield Finding(f'{_name(line)} is {there}: pip install "{line}".', stops=True)


def version_of(name: str) -> str | None:
    """Returns the version of an installed distribution, None without one."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _name(line: str) -> str:
    return re.split(r"[^\w.-]", line, maxsplit=1)[0]


def _fits(line: str) -> bool:
    version = version_of(_name(line))
    if version is None or version_of("packaging") is None:  # of the latter there is a finding
        return version is not None
    from packaging.requirements import Requirement  # comes with Lightning, and that may be what is missing

    return Requirement(line).specifier.contains(version, prereleases=True)
