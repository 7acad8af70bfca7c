"""Downloads that resume, are checked by hash, and unpacked safely."""

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

CHUNK = 1 << 20


class Remote(NamedTuple):
    """A file to download. Where its hash or size (in bytes) is not known it is taken as it comes."""

    url: str
    sha256: str | None = None
    size: int | None = None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(remote: Remote, folder: Path, attempts: int = 3, timeout: float = 30.0) -> Path:
    """Downloads into `folder`, going on where an earlier attempt (also of another run) broke off.

    What has arrived is kept as `<name>.part` and renamed when complete and verified, so a file under its own
    name is always whole. A file that is already there is returned at once.

    Args:
        remote: address and hash.
        folder: made if missing.
        attempts: how often a broken connection is taken up again.
        timeout: seconds without data after which a connection counts as broken.

    Returns:
        The path of the file.

    Raises:
        ConnectionError: if the file could not be had; a second call resumes.
        ValueError: if size or hash are wrong; the file is then removed.
    """
    name = urllib.parse.unquote(remote.url.rsplit("/", 1)[-1])
    target, part = folder / name, folder / f"{name}.part"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, attempts + 1):
        try:
            _fetch(remote.url, part, timeout)
            break
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            gone = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if attempt == attempts or gone:
                reason = getattr(error, "reason", error)
                raise ConnectionError(
                    f"cannot download {remote.url} ({reason}); run again, or put the file at {target}."
                ) from error
    if remote.size and (size := part.stat().st_size) != remote.size:
        part.unlink()
        raise ValueError(
            f"{remote.url} has {size} bytes instead of {remote.size}; the file was removed, run again."
        )
    if remote.sha256 and (found := sha256_of(part)) != remote.sha256:
        part.unlink()
        raise ValueError(
            f"{remote.url} has SHA-256 {found} instead of {remote.sha256}; the file was removed, run again."
        )
    return part.rename(target)


def _fetch(url: str, part: Path, timeout: float) -> None:
    """Appends to `part` what it lacks."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == 416 and total == str(have):  # nothing is missing
            return
        if error.code == 416:  # `part` is longer than the file: start afresh
            part.unlink()
            return _fetch(url, part, timeout)
        raise
    with answer:
        if answer.status != 206:  # the server sends the whole file
            have = 0
        length = answer.headers.get("Content-Length")
        total_bytes = have + int(length) if length else None
        columns = (
            TextColumn(part.stem),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with part.open("ab" if have else "wb") as file, Progress(*columns, transient=True) as progress:
            task = progress.add_task("", total=total_bytes, completed=have)
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                progress.update(task, advance=len(chunk))
    if total_bytes is not None and part.stat().st_size != total_bytes:
        raise ConnectionError(f"the connection broke off after {part.stat().st_size} of {total_bytes} bytes")


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar or zip archive into `folder`; a file that is no archive stays as it is.

    Everything is unpacked beside and moved at the end, so an interrupted call leaves nothing that looks
    complete.

    Raises:
        ValueError: if a member would land outside `folder`, or is a device or the like.
    """
    scratch = folder / f".{archive.name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for name in packed.namelist():
                    if not (scratch / name).resolve().is_relative_to(scratch.resolve()):
                        raise ValueError(
                            f"{archive} is unsafe: its member {name!r} points outside the folder."
                        )
                packed.extractall(scratch)
        else:
            return
        shutil.copytree(scratch, folder, copy_function=shutil.move, dirs_exist_ok=True)
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} is unsafe: {error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
