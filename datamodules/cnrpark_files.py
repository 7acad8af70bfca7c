"""Where the files of CNRPark-EXT come from, and the check that all that is needed is there."""

from collections.abc import Sequence
from pathlib import Path

from lkd.datamodules.download import Remote, download, unpack
from lkd.datamodules.files import find

_BASE = "https://github.com/fabiocarrara/deep-parking/releases/download/archive/"
REMOTES = {  # CNRPark+EXT, ODbL 1.0, Amato et al., Expert Systems with Applications 2017
    "frames": Remote(_BASE + "CNR-EXT_FULL_IMAGE_1000x750.tar"),  # 1.1 GB
    "labels": Remote(
        _BASE + "CNRPark+EXT.csv",
        "26416454cb8b184006431d0c149d31beabb8ef65d8eb2212cf4a39914a470dc8",
        18_132_695,
    ),
    "patches": Remote(
        _BASE + "CNR-EXT-Patches-150x150.zip",
        "84169527af6ad6aaf51729663b59283bc5f28368ff9ddd7856198eec226056d6",
        449_502_403,
    ),
    "splits": Remote(_BASE + "splits.zip"),  # 27 MB
}


def require(root: Path, patterns: Sequence[str], remote: Remote, fetch: bool) -> None:
    """Makes sure that one of `patterns` is found in `root` or up to two folders below it.

    Args:
        root: folder of the data set.
        patterns: names, any of which will do.
        remote: the file that brings it.
        fetch: download and unpack what is missing.

    Raises:
        FileNotFoundError: if it is missing and `fetch` is off, or the download did not bring it.
    """
    if find(root, patterns):
        return
    if not fetch:
        raise FileNotFoundError(
            f"{root} holds no {patterns[0]}: set --data.download=true to fetch it, "
            f"or unpack {remote.url} there."
        )
    unpack(download(remote, root), root)
    if not find(root, patterns):
        raise FileNotFoundError(f"{remote.url} was downloaded to {root}, but brought no {patterns[0]}.")
