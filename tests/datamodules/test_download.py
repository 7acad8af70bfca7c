import hashlib
import http.server
import io
import socket
import tarfile
import threading
import zipfile

import pytest

from lkd.datamodules.download import Remote, download, sha256_of, unpack

BODY = bytes(range(256)) * 4000  # 1 MB
HASH = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY; breaks off after `limit` bytes an answer; understands Range unless told not to."""

    limit, ranges = len(BODY), True

    def __init__(self):
        self.asked = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if "gone" in self.path:
            return self.send_error(404)
        if start >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(BODY[start : start + self.server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def remote(server, name="CNRPark+EXT.csv", sha256=HASH):
    return Remote(f"http://127.0.0.1:{server.server_port}/{name}", sha256)


def test_whole_download_is_verified_and_done_once(server, tmp_path):
    path = download(remote(server), tmp_path / "new")
    assert path == tmp_path / "new" / "CNRPark+EXT.csv" and path.read_bytes() == BODY
    assert sha256_of(path) == HASH
    download(remote(server), tmp_path / "new")
    assert server.asked == [None]


def test_broken_connection_is_resumed_within_a_call(server, tmp_path):
    server.limit = 400_000
    assert download(remote(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=400000-", "bytes=800000-"]


def test_resumed_by_a_later_call(server, tmp_path):
    server.limit = 400_000
    with pytest.raises(ConnectionError, match=r"broke off after 400000 of 1024000 bytes.*run again"):
        download(remote(server), tmp_path, attempts=1)
    assert not (tmp_path / "CNRPark+EXT.csv").exists()
    server.limit = len(BODY)
    assert download(remote(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=400000-"]


def test_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "CNRPark+EXT.csv.part").write_bytes(b"x" * 1000)
    assert download(remote(server), tmp_path).read_bytes() == BODY


def test_part_that_is_complete_or_too_long(server, tmp_path):
    (tmp_path / "CNRPark+EXT.csv.part").write_bytes(BODY)
    assert download(remote(server), tmp_path).read_bytes() == BODY
    (tmp_path / "two.part").write_bytes(BODY + b"more")
    assert download(remote(server, "two"), tmp_path).read_bytes() == BODY


def test_wrong_hash_removes_the_file(server, tmp_path):
    with pytest.raises(ValueError, match=f"SHA-256 {HASH} instead of 00"):
        download(remote(server, sha256="00"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_connection_and_no_such_file(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"cannot download http://127.0.0.1:.*refused.*put the file at"):
        download(Remote(f"http://127.0.0.1:{port}/a.zip"), tmp_path)
    with pytest.raises(ConnectionError, match="Not Found"):
        download(remote(server, "gone"), tmp_path)
    assert server.asked == [None]  # a 404 is not tried again


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


def test_wrong_size_removes_the_file(server, tmp_path):
    with pytest.raises(ValueError, match=f"has {len(BODY)} bytes instead of 5"):
        download(remote(server)._replace(size=5), tmp_path)
    assert not list(tmp_path.iterdir())
