"""The verb `camera`: what it looks at, what it says, and what it writes into a kit before it joins."""

import json
import os
import socket
from datetime import UTC, datetime, timedelta

import pytest

from lkd.cli import main
from lkd.flare import checks
from lkd.flare.job import CAMERA, EXECUTOR, RELAY, write_job
from lkd.flare.kits import close, command

pytest.importorskip("psutil")
x509 = pytest.importorskip("cryptography.x509")

LOCAL = "data: {class_path: lkd.datamodules.Digits}\n"


def certificate(first, last):
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site-1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, first, last).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def kit(tmp_path, server, monkeypatch):
    monkeypatch.setattr(checks, "version", lambda name: "2.9.0")
    monkeypatch.setattr(checks, "FREE_DISK", 0.0)
    monkeypatch.setattr(checks, "FREE_MEMORY", 0.0)
    folder = tmp_path / "site-1"
    (folder / "startup").mkdir(parents=True)
    (folder / "local").mkdir()
    now = datetime.now(UTC)
    (folder / "startup/client.crt").write_bytes(certificate(now - timedelta(1), now + timedelta(9)))
    (folder / "startup/client.key").write_text("")
    (folder / "startup/rootCA.pem").write_text("")
    (folder / "startup/sub_start.sh").write_text(
        "python --set secure_train=true uid=site-1 org=parks config_folder=config"
    )
    said = {"servers": [{"service": {"target": f"127.0.0.1:{server}"}}], "client": {"fqsn": "site-1"}}
    (folder / "startup/fed_client.json").write_text(json.dumps(said))
    given = {
        "class_allow_list": ["*"],
        "components": [{"id": "a", "path": "nvflare.A"}],
        "allow_log_streaming": True,
    }
    (folder / "local/resources.json.default").write_text(json.dumps(given))
    (tmp_path / "local.yaml").write_text(LOCAL)
    return folder


def camera(kit, *more):
    main(["camera", "--data", str(kit.parent / "local.yaml"), "--kit", str(kit), *more])


def test_all_is_well(kit, capsys):
    camera(kit, "--check")
    told = capsys.readouterr().out
    assert "NO" not in told and "data: " in told and "training samples of 1 client\n" in told
    assert [line.split(":")[0].strip() for line in told.splitlines()] == [*checks.CHECKS, "data"]
    assert not (kit / "local/resources.json").exists()


def test_it_joins_closed(kit, monkeypatch):
    joined = []
    monkeypatch.setattr(os, "execve", lambda *given: joined.append(given))
    camera(kit)
    ((_, start, environment),) = joined
    assert start == command(kit) and "org=parks" in start and "uid=site-1" in start
    assert environment["LKD_CAMERA"] == str(kit.parent / "local.yaml")
    closed = json.loads((kit / "local/resources.json").read_text())
    assert closed["class_allow_list"] == [EXECUTOR, CAMERA, "nvflare.A"]
    assert closed["class_list_enforcement_mode"] == "enforce" and closed["allow_log_streaming"] is False
    rights = json.loads((kit / "local/authorization.json").read_text())["permissions"]
    assert rights.keys() == {"project_admin"} and rights["project_admin"]["byoc"] == "none"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda kit, patch: (kit / "startup/client.key").unlink(), "lacks startup/client.key"),
        (lambda kit, patch: patch.setattr(checks, "version", lambda name: "2.10.1"), "NVFlare is 2.10.1, and must be 2.9"),
        (lambda kit, patch: patch.setattr(checks, "FREE_DISK", 1e9), "of the disk of"),
        (lambda kit, patch: patch.setattr(checks, "FREE_MEMORY", 1e9), "GB of memory are free"),
        (lambda kit, patch: (kit.parent / "local.yaml").write_text("folder: x"), "must say what the data are"),
        (lambda kit, patch: (kit.parent / "local.yaml").write_text("data: {class_path: lkd.datamodules.Digit}"), "data: NO"),
        (lambda kit, patch: (kit.parent / "local.yaml").unlink(), "No such file"),
        (
            lambda kit, patch: (kit / "startup/client.crt").write_bytes(
                certificate(datetime(2020, 1, 1), datetime(2020, 2, 1))
            ),
            "the certificate holds from 2020-01-01 00:00 to 2020-02-01 00:00 UTC, and this clock says",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_it_does_not_join(spoil, told, kit, monkeypatch, capsys):
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("joined"))
    spoil(kit, monkeypatch)
    with pytest.raises(SystemExit, match="not joined"):
        camera(kit)
    out = capsys.readouterr().out
    assert told in out and "NO" in out


def test_a_server_that_does_not_answer(kit, capsys):
    path = kit / "startup/fed_client.json"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = json.loads(path.read_text())
    said["servers"][0]["service"]["target"] = f"127.0.0.1:{port}"
    path.write_text(json.dumps(said))
    with pytest.raises(SystemExit, match="not joined"):
        camera(kit, "--check")
    assert f"the server 127.0.0.1:{port} does not answer" in capsys.readouterr().out


def test_a_key_that_others_can_read_is_closed_when_it_joins(kit, monkeypatch, capsys):
    key = kit / "startup/client.key"
    key.chmod(0o644)
    camera(kit, "--check")
    assert key.stat().st_mode & 0o077 and "readable by others until it joins" in capsys.readouterr().out
    monkeypatch.setattr(os, "execve", lambda *given: None)
    camera(kit)
    assert key.stat().st_mode & 0o077 == 0


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_check_writes_nothing(kit, monkeypatch):
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("joined"))
    before = written(kit.parent)
    camera(kit, "--check")
    assert written(kit.parent) == before


@pytest.fixture
def server_kit(kit):
    for end in ("crt", "key"):
        (kit / f"startup/client.{end}").rename(kit / f"startup/server.{end}")
    (kit / "startup/fed_client.json").rename(kit / "startup/fed_server.json")
    return kit


def test_a_check_of_a_server_s_kit_starts_nothing(server_kit, monkeypatch, capsys):
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("started"))
    before = written(server_kit)
    main(["camera", "--kit", str(server_kit), "--check"])
    told = capsys.readouterr().out
    assert "kit of the server site-1" in told and "will listen at 127.0.0.1:" in told and "NO" not in told
    assert written(server_kit) == before
    (server_kit / "startup/server.key").unlink()
    with pytest.raises(SystemExit, match="not started"):
        main(["camera", "--kit", str(server_kit), "--check"])


def edited(path, change):
    told = json.loads(path.read_text())
    path.write_text(json.dumps(change(told)))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda kit: edited(kit / "startup/fed_client.json", lambda told: {}), "its JSON has no servers.0.service.target"),
        (lambda kit: edited(kit / "startup/fed_client.json", lambda told: []), "its JSON has no servers.0.service.target"),
        (lambda kit: edited(kit / "startup/fed_client.json", lambda told: {**told, "client": "x"}), "its JSON has no client.fqsn"),
        (lambda kit: edited(kit / "startup/fed_client.json", lambda told: {**told, "servers": [{"service": {"target": "here"}}]}), "which is no address"),
        (lambda kit: (kit / "startup/fed_client.json").write_text("{"), "fed_client.json is no JSON"),
        (lambda kit: (kit / "startup/fed_client.json").unlink(), "it lacks startup/fed_client.json"),
        (lambda kit: (kit / "startup/sub_start.sh").unlink(), "it lacks startup/sub_start.sh"),
        (lambda kit: (kit / "local/resources.json.default").unlink(), "it lacks local/resources.json.default"),
        (lambda kit: edited(kit / "local/resources.json.default", lambda told: {"components": 3}), "its JSON has no 0.path"),
        (lambda kit: edited(kit / "local/resources.json.default", lambda told: {}), "its JSON has no components"),
        (lambda kit: (kit / "startup/client.key").unlink() or (kit / "startup/client.key").mkdir(), "cannot be read (Is a directory)"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_kit(spoil, told, kit, monkeypatch, capsys):
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("joined"))
    spoil(kit)
    for more in ([], ["--check"]):
        with pytest.raises(SystemExit, match="not joined"):
            camera(kit, *more)
        out = capsys.readouterr().out
        assert f"kit: NO: kit={str(kit)!r} is no kit of a site: " in out and told in out
    with pytest.raises(ValueError, match="is no kit of a site"):
        close(kit)


def test_a_kit_that_cannot_be_written(kit, monkeypatch, capsys):
    (kit / "startup/client.key").chmod(0o644)

    def fails(path, mode):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr("pathlib.Path.chmod", fails)
    with pytest.raises(SystemExit, match=r"kit='.*' cannot be closed: .*client.key: Operation not permitted"):
        camera(kit)
    monkeypatch.setattr(os, "access", lambda path, mode: "local" not in str(path))
    with pytest.raises(SystemExit, match="not joined"):
        camera(kit)
    assert "must be a folder that you can write" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["turn: 3", "turn: [0]", "turn: [a, b]", "threads: two", "folder: 3", "fractions: 1",
                                  "accelerator: gpux"])  # fmt: skip
def test_a_local_file_that_is_wrong_is_said(text, kit, monkeypatch, capsys):
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("joined"))
    path = kit.parent / "local.yaml"
    path.write_text(f"{LOCAL}{text}\n")
    with pytest.raises(SystemExit, match="not joined"):
        camera(kit)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "NO" in line]
    assert line.startswith(f"     data: NO: {path}: {text.split(':')[0]}=") and " must be " in line


def test_a_server_s_kit(server_kit, monkeypatch):
    kit, joined = server_kit, []
    monkeypatch.setattr(os, "execve", lambda *given: joined.append(given))
    main(["camera", "--kit", str(kit)])
    assert "nvflare.private.fed.app.server.server_train" in joined[0][1]
    assert RELAY in json.loads((kit / "local/resources.json").read_text())["class_allow_list"]
    with pytest.raises(SystemExit, match="has no use for --data"):
        camera(kit)


def test_the_job_carries_no_code(tmp_path):
    job = write_job(tmp_path, "/a/socket")
    assert {path.suffix for path in job.rglob("*") if path.is_file()} == {".json"}
    assert not (job / "app/custom").exists()
    client = json.loads((job / "app/config/config_fed_client.json").read_text())
    assert [part["path"] for part in client["components"]] == [CAMERA]
