"""The commit of the code that runs: of its own repository alone, and marked where files differ from it."""

import subprocess

import pytest

from lkd.leaderboard.origin import commit_of, origin


def git(folder, *words):
    mine = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *mine, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return folder


def test_commit_and_changes(package):
    head = git(package, "rev-parse", "HEAD")
    assert commit_of(package) == head[:12]
    (package / "runs").mkdir()
    assert commit_of(package) == head[:12], "files that nobody tracks change no code"
    (package / "__init__.py").write_text("x = 1\n")
    assert commit_of(package) == head[:12] + "+"


def test_a_package_that_is_not_of_the_repository_around_it_has_none(package):
    installed = package / "site-packages"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    assert commit_of(installed) is None


def test_no_repository_and_no_git(tmp_path, monkeypatch):
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert origin().commit is None
