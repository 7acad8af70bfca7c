"""Downloads that resume, run in one process at a time, and are checked by hash, or else by size and form."""

import hashlib
import http.client
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lkd.datamodules.io.archives import DamagedArchiveError, check_form

log = logging.getLogger(__name__)
CHUNK = 1 << 20


class Remote(NamedTuple):
    """File to download. If its hash is not known, its size (in bytes) and its form are checked."""

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """Name of the downloaded file."""
        return urllib.parse.unquote(self.url.rsplit("/", 1)[-1])


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    remote: Remote, folder: Path, attempts: int = 3, timeout: float = 30.0, deadline: float = 12 * 3600.0
) -> Path:
    """Downloads into `folder`, and continues where an earlier attempt (also of another run) broke off.

    What has arrived is kept as `<name>.part` and renamed when complete and verified, so a file under its own
    name is always whole. A file that exists is checked and returned. Of several processes one downloads, and
    the others wait for it. A file that fails the check is set aside as `<name>.damaged` and fetched again
    once.

    Args:
        remote: address and hash.
        folder: made if missing.
        attempts: how often a broken connection is resumed.
        timeout: seconds without data after which a connection counts as broken.
        deadline: seconds after which the download is given up, including the wait for another process.

    Returns:
        The path of the file.

    Raises:
        ConnectionError: if the file could not be fetched; a second call resumes.
        ValueError: if size, hash or form are wrong twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end, target = time.monotonic() + deadline, folder / remote.name
    lock = FileLock(folder / f".{remote.name}.lock")
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        log.info("Another process is downloading %s: waiting for it.", target)
        try:
            held = lock.acquire(timeout=deadline)
        except Timeout as error:
            raise ConnectionError(
                f"another process has been downloading {target} for {deadline:g} s; wait for it, or end it, and run again."
            ) from error
    with held:
        if target.is_file():
            if _fault(remote, target) is None:
                return target
            set_aside(target)
        part = folder / f"{remote.name}.part"
        _fetch_all(remote, part, attempts, timeout, end)
        if _fault(remote, part):
            set_aside(part, target)
            _fetch_all(remote, part, attempts, timeout, end)
        if fault := _fault(remote, part):
            set_aside(part, target)
            raise ValueError(f"{fault}; it was fetched twice, and lies as {target}.damaged.")
        if remote.sha256 is None:
            rank_zero_warn(f"{remote.url}: no hash is published, so only its size and its form were checked.")
        return part.rename(target)


def set_aside(path: Path, target: Path | None = None) -> None:
    """Renames a damaged file to `<name>.damaged`, where `target` is the name that it should have had."""
    target = target or path
    log.warning("%s is damaged: it is kept as %s.damaged.", path, target.name)
    path.replace(target.with_name(f"{target.name}.damaged"))


def _fault(remote: Remote, path: Path) -> str | None:
    """Returns what is wrong with a file, or `None` if all that is known of it fits."""
    if remote.size and (size := path.stat().st_size) != remote.size:
        return f"{remote.url} has {size} bytes instead of {remote.size}"
    if remote.sha256:
        found = sha256_of(path)
        return (
            None if found == remote.sha256 else f"{remote.url} has SHA-256 {found} instead of {remote.sha256}"
        )
    try:
        check_form(path, remote.name)
    except DamagedArchiveError as error:
        return f"{remote.url}: {str(error).rstrip('.')}"
    return None


def _fetch_all(remote: Remote, part: Path, attempts: int, timeout: float, end: float) -> None:
    """Fetches what `part` lacks, and resumes a broken connection."""
    for attempt in range(1, attempts + 1):
        try:
            return _fetch(remote, part, timeout, end)
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            gone = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if attempt == attempts or gone or time.monotonic() > end:
                raise ConnectionError(
                    f"cannot download {remote.url} ({getattr(error, 'reason', error)}); run again, or put the file at "
                    f"{part.with_suffix('')}."
                ) from error


def _fetch(remote: Remote, part: Path, timeout: float, end: float) -> None:
    """Appends to `part` what it lacks, if the file on the server is still the same one."""
    mark = part.with_name(f".{part.name}.mark")  # records which version of the file the part belongs to
    version = mark.read_text() if mark.is_file() else ""
    have = part.stat().st_size if part.is_file() else 0
    if not (version or remote.sha256):  # nothing would tell that two halves belong to one file
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and version:
        headers["If-Range"] = version
    try:
        answer = urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if (error.headers.get("Content-Range") or "").rpartition("/")[2] == str(have):  # nothing is missing
            return
        part.unlink()  # longer than the file: start afresh
        return _fetch(remote, part, timeout, end)
    with answer:
        length = answer.headers.get("Content-Length")
        total = have + int(length) if have and length else int(length) if length else None
        if answer.status == 206:
            says = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range") or "")
            if says is None or int(says[1]) != have:
                part.unlink()
                raise ConnectionError(
                    f"the server sent {says and says[0]}, and not what comes after {have} bytes"
                )
            total = int(says[2]) if says[2] != "*" else total
        elif have:  # the server sends the whole file
            have, total = 0, int(length) if length else None
        if remote.size and total not in (None, remote.size):
            raise ValueError(f"{remote.url} has {total} bytes instead of {remote.size}; nothing was fetched.")
        tag = answer.headers.get("ETag") or ""
        mark.write_text(answer.headers.get("Last-Modified") or "" if not tag or tag.startswith("W/") else tag)
        _receive(answer, part, have, total, end)
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"the connection broke off after {part.stat().st_size} of {total} bytes")
    mark.unlink()


def _receive(answer: http.client.HTTPResponse, part: Path, have: int, total: int | None, end: float) -> None:
    """Appends what arrives to `part`, of which `have` bytes exist."""
    columns = (
        TextColumn(part.stem),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with part.open("ab" if have else "wb") as file, Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total, completed=have)
        while chunk := answer.read1(CHUNK):
            file.write(chunk)
            progress.update(task, advance=len(chunk))
            if time.monotonic() > end:
                raise TimeoutError("the deadline is over")
            if total is not None and file.tell() > total:
                raise ConnectionError(f"the server sends more than the {total} bytes that it promised")
