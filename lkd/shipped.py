"""The configs that are installed with lkd: `lkd:parking/oracle.yaml` names one wherever a config is named."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

PREFIX = "lkd:"
_HERE = Path(__file__).parent
FOLDER = _HERE / "configs"  # of an installed lkd; in the repository they lie beside it
if not FOLDER.is_dir():
    FOLDER = _HERE.parent / "configs"  # may be missing too, where lkd's folder was copied by itself
_NAMED = re.compile(r"(?<![\w./-])configs/([\w/.-]+\.yaml)")


def names() -> list[str]:
    """Returns the name of every config of lkd's own, such as `"lkd:parking/oracle.yaml"`."""
    return sorted(PREFIX + path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))


def find(name: str | Path) -> Path:
    """Returns the path of the config that a user names.

    Args:
        name: A path, from the working directory, or `lkd:` and the name of one of lkd's own.

    Raises:
        FileNotFoundError: If lkd has no such config. A path is returned as it is, though nothing lies there.

    Example:
        >>> find("lkd:networks/small.yaml").is_file()
        True
        >>> find("mine.yaml").name
        'mine.yaml'
        >>> find("lkd:networks/smal.yaml")
        Traceback (most recent call last):
        FileNotFoundError: lkd has no config 'lkd:networks/smal.yaml'; did you mean 'lkd:networks/small.yaml'?
    """
    if not str(name).startswith(PREFIX):
        return Path(name)
    if not FOLDER.is_dir():
        raise FileNotFoundError(
            f"lkd has no config {str(name)!r}: neither {_HERE / 'configs'} nor {_HERE.parent / 'configs'} is a folder, as where lkd's "
            "Python files were copied without them; install lkd with pip, or copy configs/ beside them."
        )
    if name not in (known := names()):
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"all lie in {FOLDER}."
        raise FileNotFoundError(f"lkd has no config {str(name)!r}; {hint}")
    return FOLDER / str(name).removeprefix(PREFIX)


def is_own(name: str | Path) -> bool:
    """Returns whether a config is one of lkd's own, named by `lkd:` or its full path."""
    path = find(name)
    return path.is_absolute() and path.resolve().is_relative_to(FOLDER.resolve())


def renamed(text: str) -> str:
    """Returns the text of one of lkd's own configs with `lkd:` for `configs/`, so that it holds in any folder.

    Example:
        >>> renamed("recipe: configs/parking/teacher.yaml")
        'recipe: lkd:parking/teacher.yaml'
    """
    return _NAMED.sub(rf"{PREFIX}\1", text)


def read(name: str | Path) -> str:
    """Returns the text of a config; in one of lkd's own, other configs are named by `lkd:`."""
    text = find(name).read_text(encoding="utf-8")
    return renamed(text) if is_own(name) else text


def hint(name: str) -> str:
    """Returns the end of a message about a path that does not exist: the config of lkd's own that may be meant.

    Example:
        >>> hint("configs/networks/small.yaml"), hint("mine.yaml")
        ("; lkd's own is 'lkd:networks/small.yaml'", '')
    """
    own = renamed(name)
    return f"; lkd's own is {own!r}" if own in names() else ""


def with_paths(args: Sequence[str]) -> list[str]:
    """Returns the arguments of a command line with a path for each `--config lkd:NAME`.

    Raises:
        FileNotFoundError: If lkd has no such config, or for a path of the repository's that is not here.

    Example:
        >>> Path(with_paths(["fit", "--config=lkd:networks/small.yaml"])[1]).name
        'small.yaml'
    """
    given = list(args)
    for place, word in enumerate(given):
        option, equals, value = word.partition("=")
        if equals and option in ("--config", "-c"):
            given[place] = f"{option}={_path(value)}"
        elif place and given[place - 1] in ("--config", "-c"):
            given[place] = _path(word)
    return given


def _path(name: str) -> str:
    if hint(name) and not name.startswith(PREFIX) and not Path(name).is_file():
        raise FileNotFoundError(f"--config {name}: there is no such file in {Path.cwd()}{hint(name)}.")
    return str(find(name)) if name.startswith(PREFIX) else name
