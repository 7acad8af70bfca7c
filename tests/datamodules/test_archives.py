import io
import tarfile
import zipfile

import pytest

from lkd.datamodules.io import archives
from lkd.datamodules.io.archives import DamagedArchiveError, unpack


def archive(path, name, kind):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, "text")
    else:
        with tarfile.open(path, "w") as file:
            member = tarfile.TarInfo(name)
            member.size = 4
            file.addfile(member, io.BytesIO(b"text"))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack(tmp_path, kind):
    (tmp_path / "data" / "in").mkdir(parents=True)
    (tmp_path / "data" / "in" / "other.txt").write_text("kept")
    unpack(archive(tmp_path / f"a.{kind}", "in/side.txt", kind), tmp_path / "data")
    assert (tmp_path / "data" / "in" / "side.txt").read_text() == "text"
    assert (tmp_path / "data" / "in" / "other.txt").read_text() == "kept"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["in"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../outside.txt", "in/../../outside.txt"])
def test_unpack_refuses_to_leave_the_folder(tmp_path, kind, name):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="unsafe"):
        unpack(archive(tmp_path / f"a.{kind}", name, kind), tmp_path / "data")
    assert not list(tmp_path.rglob("outside.txt")) and not list((tmp_path / "data").iterdir())


def test_a_plain_file_is_left_alone(tmp_path):
    (tmp_path / "a.csv").write_text("x,y")
    unpack(tmp_path / "a.csv", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_bombs_are_refused_before_they_are_on_the_disk(tmp_path, monkeypatch):
    """By what members say of themselves; a tar says it one by one."""
    monkeypatch.setattr(archives, "SMALL", 10_000)
    for kind in ("zip", "tar.gz"):
        path = tmp_path / f"bomb.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr("a.bin", bytes(1_000_000))
        else:
            with tarfile.open(path, "w:gz") as file:
                for name in ("a", "b"):
                    member = tarfile.TarInfo(name)
                    member.size = 500_000
                    file.addfile(member, io.BytesIO(bytes(500_000)))
        folder = tmp_path / kind
        folder.mkdir()
        with pytest.raises(
            ValueError, match=rf"bomb\.{kind} unpacks to more than 0\.0 GiB, .* unpack it yourself"
        ):
            unpack(path, folder)
        assert not list(folder.iterdir())
        unpack(path, folder, most=2_000_000)  # who knows it may
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as file:
        for number in range(50):
            file.writestr(f"{number}.txt", "")
    with pytest.raises(ValueError, match="unpacks to more"):
        unpack(tmp_path / "many.zip", folder, most=10_000)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_damaged_archives_are_called_so(tmp_path, kind):
    whole = io.BytesIO()
    text = bytes(range(256)) * 40
    if kind == "zip":
        with zipfile.ZipFile(whole, "w") as file:
            file.writestr("a.bin", text)
    else:
        with tarfile.open(fileobj=whole, mode=f"w:{kind[4:]}") as file:
            member = tarfile.TarInfo("a.bin")
            member.size = len(text)
            file.addfile(member, io.BytesIO(text))
    path, content = tmp_path / f"a.{kind}", whole.getvalue()
    (tmp_path / "data").mkdir()
    half = len(content) // 2
    for broken in (content[:half], content[:half] + b"\xff" * 8 + content[half + 8 :], b"<html>", b""):
        if kind == "tar" and len(broken) == len(content):
            continue  # has no sum to check the bytes of its members by
        path.write_bytes(broken)
        with pytest.raises(DamagedArchiveError, match=rf"a\.{kind} is (damaged|no archive)"):
            unpack(path, tmp_path / "data")
        assert not list((tmp_path / "data").iterdir())
