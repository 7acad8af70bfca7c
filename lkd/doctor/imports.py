"""Whether what is installed can be imported: links of the repository, and the libraries of compiled code."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from lkd.doctor.finding import Finding

PACKAGE = Path(__file__).parents[1]
LINKED = ("callbacks", "datamodules")
COMPILED = ("torch", "torchvision", "lightning.pytorch")


def links(package: Path = PACKAGE) -> Iterator[Finding]:
    """Yields what of lkd's own folders is not there, as where Git wrote a link as a text file."""
    for name in LINKED:
        if (package / name / "__init__.py").is_file():
            continue
        why = "a text file in place of a link" if (package / name).is_file() else "missing"
        yield Finding(
            f"{package / name} is {why}: on Windows switch developer mode on, and clone again with "
            "git clone -c core.symlinks=true; or install lkd, which needs no links: pip install .",
            stops=True,
        )


def importable(names: tuple[str, ...] = COMPILED) -> Iterator[Finding]:
    """Yields libraries that are there and cannot be imported, such as a torchvision built for another torch."""
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.split(".")[0]:  # else it is missing, which the requirements say
                yield Finding(f"{name} cannot be imported: {error}.", stops=True)
        except Exception as error:
            yield Finding(f"{name} cannot be imported: {type(error).__name__}: {error}", stops=True)
