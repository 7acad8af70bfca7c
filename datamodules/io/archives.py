"""Safe unpacking of archives: nothing outside the folder, nothing that fills the disk, nothing half done."""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

RATIO = 100  # bytes that a byte of an archive may unpack to; tables of numbers reach 20, bombs 1,000 and more
SMALL = 64 << 20  # bytes that any archive may unpack to
ENTRY = 512  # bytes that any file takes
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class DamagedArchiveError(ValueError):
    """Error for an archive that is cut off, or for a file that is no archive."""


def check_form(path: Path, name: str) -> None:
    """Refuses a file that is named as an archive but is none, such as a web page with an error message.

    Args:
        path: the file.
        name: name to check by, if the file does not have its own name yet.

    Raises:
        DamagedArchiveError: with the first bytes of the file.
    """
    if name.endswith(SUFFIXES) and not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        with path.open("rb") as file:
            raise DamagedArchiveError(f"{path} is no archive, or cut off: it begins with {file.read(20)!r}.")


def unpack(archive: Path, folder: Path, most: int | None = None) -> None:
    """Unpacks a tar or zip archive into `folder`; a file with another ending stays as it is.

    Everything is unpacked beside and moved at the end, so an interrupted call leaves nothing that looks
    complete.

    Args:
        archive: the file.
        folder: folder to unpack into.
        most: bytes that it may unpack to. Default: the free space of the disk, but no more than 100 times its
            size (or 64 MiB).

    Raises:
        DamagedArchiveError: if it cannot be read.
        ValueError: if a member would land outside `folder`, or is a device or the like, or if it unpacks to
            too many bytes.
    """
    check_form(archive, archive.name)
    scratch = folder / f".{archive.name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    if most is None:
        most = min(shutil.disk_usage(folder).free, max(SMALL, RATIO * archive.stat().st_size))
    try:
        if zipfile.is_zipfile(archive):
            members = _unzip(archive, scratch)
        elif tarfile.is_tarfile(archive):
            members = _untar(archive, scratch)
        else:
            return
        total = 0
        for size in members:
            total += max(size, ENTRY)
            if total > most:
                raise ValueError(
                    f"{archive} unpacks to more than {most / 2**30:.1f} GiB, which is more than is free or than a data set "
                    f"of {archive.stat().st_size / 2**30:.1f} GiB should: if you trust it, unpack it yourself."
                )
        shutil.copytree(scratch, folder, copy_function=shutil.move, dirs_exist_ok=True)
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} is unsafe: {error}.") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DamagedArchiveError(f"{archive} is damaged: {error}.") from error
    except OSError as error:
        if error.errno is not None:  # the disk's fault, not the archive's
            raise
        raise DamagedArchiveError(f"{archive} is damaged: {error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _untar(archive: Path, scratch: Path) -> Iterator[int]:
    """Unpacks the members of a tar one by one, each after a check of its size."""
    with tarfile.open(archive) as tar:
        for member in tar:
            yield member.size
            tar.extract(member, scratch, filter="data")
        while tar.fileobj is not None and tar.fileobj.read(1 << 20):  # the checksum of a .gz comes last
            pass


def _unzip(archive: Path, scratch: Path) -> Iterator[int]:
    """Unpacks the members of a zip after a check of all sizes; none gives more bytes than it says."""
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            if not (scratch / member.filename).resolve().is_relative_to(scratch.resolve()):
                raise ValueError(
                    f"{archive} is unsafe: its member {member.filename!r} points outside the folder."
                )
            if member.flag_bits & 1:
                raise ValueError(f"{archive} is encrypted: unpack it yourself.")
            yield member.file_size
        packed.extractall(scratch)
