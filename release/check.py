"""Checks what would be released as somebody who installs it: in a fresh environment and an empty folder.

    python release/check.py dist          # with the README's main job
    python release/check.py dist --short  # without it

Installs the wheel with its extra `yolo`, imports every module, asks `lkd doctor`, and runs the main job.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOB = ["fit", "--config", "lkd:parking/oracle.yaml"]
NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "lkd/cli.py", "callbacks/report.py")
"""What the source distribution must hold, so that a wheel can be made of it."""
EXTRAS = ("lkd.flare.camera", "lkd.flare.relay", "lkd.flare.one_job")
"""Modules that need an extra at import: they run inside of NVFlare's processes alone."""


def files(dist: Path) -> tuple[Path, Path]:
    """Returns the wheel and the source distribution, of which there must be one each, of one version.

    Raises:
        ValueError: If there are none or several, of two versions, or with files missing or too many.
    """
    wheels, sources = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sources) != 1:
        raise ValueError(
            f"{dist} has {len(wheels)} wheels and {len(sources)} source distributions; it takes one each."
        )
    wheel, source = wheels[0], sources[0]
    versions = {wheel.name.split("-")[1], source.name.removesuffix(".tar.gz").rpartition("-")[2]}
    if len(versions) != 1:
        raise ValueError(f"{wheel.name} and {source.name} are of two versions.")
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    if missing := [name for name in NEEDED if name not in held]:
        raise ValueError(f"{source.name} lacks {', '.join(missing)}.")
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    if others := [name for name in tops if name != "lkd" and not name.endswith(".dist-info")]:
        raise ValueError(f"{wheel.name} would install {', '.join(sorted(others))} beside lkd.")
    return wheel, source


def modules(wheel: Path) -> list[str]:
    """Returns the names of the wheel's modules that can be imported without extras."""
    names = [
        re.sub(r"(/__init__)?\.py$", "", n) for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".py")
    ]
    found = {name.replace("/", ".") for name in names}
    return sorted(name for name in found if name not in EXTRAS and not name.endswith("__main__"))


def check(dist: Path, short: bool) -> None:
    """Installs and runs what is in a folder.

    Args:
        dist: Folder with a wheel and a source distribution.
        short: Leaves the main job out.

    Raises:
        subprocess.CalledProcessError: If a step fails, after what it has printed.
        ValueError: If the files are not right.
    """
    wheel, _ = files(dist)
    with tempfile.TemporaryDirectory() as name:
        environment, folder = Path(name, "environment"), Path(name, "empty")
        folder.mkdir()
        venv.create(environment, with_pip=True)
        binaries = environment / ("Scripts" if sys.platform == "win32" else "bin")
        python, lkd = binaries / "python", binaries / "lkd"

        def step(*words: str | Path) -> None:
            print("+", *map(str, words[:6]), *["..."] * (len(words) > 6), flush=True)
            subprocess.run([str(word) for word in words], cwd=folder, check=True)

        step(python, "-m", "pip", "install", "--quiet", f"{wheel.resolve()}[yolo]")
        step(lkd, "doctor")
        ask = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
        step(python, "-I", "-c", ask, *modules(wheel))
        if not short:
            step(lkd, *JOB)


def main() -> None:
    """Runs the check."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dist", type=Path)
    parser.add_argument("--short", action="store_true", help="without the main job, which takes minutes")
    given = parser.parse_args()
    try:
        check(given.dist, given.short)
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"not to be released: {error}")
    print("What was built installs and runs.")


if __name__ == "__main__":
    main()
