import multiprocessing
import zipfile

import pytest

from lkd.datamodules.io.archives import DamagedArchiveError
from lkd.datamodules.io.download import Remote
from lkd.datamodules.io.fetched import require


@pytest.fixture
def release(tmp_path):
    """Of a folder `set` with a file, as an archive at a file:// address."""
    path = tmp_path / "release.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/a.txt", "text" * 100)
    return Remote(path.as_uri())


def test_an_archive_that_is_damaged_is_set_aside_and_fetched_anew(release, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "release.zip").write_bytes((tmp_path / "release.zip").read_bytes()[:-30])
    with pytest.raises(DamagedArchiveError, match=r"release\.zip is no archive, or cut off"):
        require(root, ["a.txt"], release, fetch=False, local=["release.zip"])
    with pytest.warns(UserWarning, match="no hash is published"):
        require(root, ["a.txt"], release, fetch=True)
    assert (root / "set" / "a.txt").is_file() and (root / "release.zip.damaged").is_file()


def test_a_release_that_is_damaged_itself_is_refused_after_the_second_time(release, tmp_path):
    whole = (tmp_path / "release.zip").read_bytes()
    (tmp_path / "release.zip").write_bytes(whole.replace(b"text", b"tent", 3))  # its sum does not hold
    with (
        pytest.warns(UserWarning),
        pytest.raises(DamagedArchiveError, match=r"release\.zip is damaged: Bad CRC-32"),
    ):
        require(tmp_path / "root", ["a.txt"], release, fetch=True)
    assert not (tmp_path / "root" / "set").exists()


def test_processes_do_not_unpack_at_the_same_time(release, tmp_path):
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "root", ["a.txt"], release, True)
    others = [context.Process(target=require, args=arguments) for _ in range(3)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert [one.exitcode for one in others] == [0] * 3
    assert sorted(path.name for path in (tmp_path / "root").iterdir() if path.name[0] != ".") == [
        "release.zip",
        "set",
    ]


def test_what_is_brought_is_something_else(release, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no b\.txt: set --data\.download=true to fetch it, or unpack file:"
    ):
        require(tmp_path / "root", ["b.txt"], release, fetch=False)
    with (
        pytest.warns(UserWarning),
        pytest.raises(FileNotFoundError, match=r"was unpacked in .*, but brought no b\.txt"),
    ):
        require(tmp_path / "root", ["b.txt"], release, fetch=True)
