"""What a data set needs: found, unpacked in place, or downloaded by one process while the others wait."""

from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from lkd.datamodules.io.archives import DamagedArchiveError, unpack
from lkd.datamodules.io.download import Remote, download, set_aside
from lkd.datamodules.io.files import find


def require(
    root: Path, patterns: Sequence[str], remote: Remote, fetch: bool, local: Sequence[str] = ()
) -> None:
    """Makes sure that one of `patterns` is found in `root` or up to two folders below it.

    Args:
        root: folder of the data set.
        patterns: names, any of which will do.
        remote: the file that contains it.
        fetch: download and unpack what is missing.
        local: names of archives in `root` that are unpacked in place, each out of the one before.

    Raises:
        FileNotFoundError: if it is missing and `fetch` is off, or neither archive nor download brought it.
        ValueError: for an archive that is damaged (fetched ones: twice) or unsafe.
    """
    if find(root, patterns):
        return
    if not fetch and not any((root / name).is_file() for name in local):
        raise FileNotFoundError(
            f"{root} holds no {patterns[0]}: set --data.download=true to fetch it, or unpack {remote.url} there."
        )
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{remote.name}.unpacking.lock"):
        if find(root, patterns):  # the process that was waited for has brought it
            return
        names = local or (remote.name,)
        try:
            _bring(root, remote, fetch, names)
        except DamagedArchiveError:
            if not fetch:
                raise
            for name in names:
                if (root / name).is_file():
                    set_aside(root / name)
            _bring(root, remote, fetch, names)
    if not find(root, patterns):
        raise FileNotFoundError(f"{remote.url} was unpacked in {root}, but brought no {patterns[0]}.")


def _bring(root: Path, remote: Remote, fetch: bool, names: Sequence[str]) -> None:
    """Unpacks the archives, and downloads them if none exists."""
    if fetch and not any((root / name).is_file() for name in names):
        download(remote, root)
    for name in names:
        if (root / name).is_file():
            unpack(root / name, root)
