import hashlib
import http.server
import io
import multiprocessing
import socket
import threading
import time
import warnings
import zipfile

import pytest
from filelock import FileLock

from lkd.datamodules.io.download import Remote, download, sha256_of

BODY = bytes(range(256)) * 4000  # 1 MB
HASH = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body`; breaks off after `limit` bytes an answer; understands Range unless told not to, and If-Range by `tag`."""

    def __init__(self):
        self.body, self.limit, self.ranges, self.tag, self.shift, self.pause = (
            BODY,
            len(BODY),
            True,
            '"1"',
            0,
            0.0,
        )
        self.asked = []
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *args):
        pass  # of clients that hang up


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted, server = self.headers.get("Range"), self.server
        server.asked.append(wanted)
        body, same = server.body, self.headers.get("If-Range") in (None, server.tag)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges and same else 0
        if "gone" in self.path:
            return self.send_error(404)
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{len(body) - 1}/{len(body)}")
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        for at in range(start, min(start + server.limit, len(body)), 100_000):
            time.sleep(server.pause)
            self.wfile.write(body[at : min(at + 100_000, start + server.limit)])

    def log_message(self, *args):
        pass


def names(folder):
    """What a user sees there."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


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


def test_wrong_hash_is_fetched_anew_once_and_set_aside(server, tmp_path):
    with pytest.raises(ValueError, match=f"SHA-256 {HASH} instead of 00; it was fetched twice, and lies as"):
        download(remote(server, sha256="00"), tmp_path)
    assert names(tmp_path) == ["CNRPark+EXT.csv.damaged"] and server.asked == [None, None]


def test_a_damaged_file_or_part_is_made_good(server, tmp_path):
    (tmp_path / "CNRPark+EXT.csv").write_bytes(BODY[:-1])
    assert download(remote(server), tmp_path).read_bytes() == BODY
    assert (tmp_path / "CNRPark+EXT.csv.damaged").read_bytes() == BODY[:-1]
    (tmp_path / "two.part").write_bytes(b"of another version" * 10)  # with a hash it is tried
    assert download(remote(server, "two"), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=180-", None]


def test_no_connection_and_no_such_file(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"cannot download http://127.0.0.1:.*refused.*put the file at"):
        download(Remote(f"http://127.0.0.1:{port}/a.zip"), tmp_path)
    with pytest.raises(ConnectionError, match="Not Found"):
        download(remote(server, "gone"), tmp_path)
    assert server.asked == [None]  # a 404 is not tried again


def test_wrong_size_is_said_before_anything_is_fetched(server, tmp_path):
    with pytest.raises(ValueError, match=f"has {len(BODY)} bytes instead of 5"):
        download(remote(server)._replace(size=5), tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_has_changed_is_not_joined_to_the_old_part(server, tmp_path):
    server.limit = 400_000
    with pytest.raises(ConnectionError):
        download(remote(server, sha256=None), tmp_path, attempts=1)
    server.body, server.tag, server.limit = BODY[::-1], '"2"', len(BODY)
    with pytest.warns(UserWarning, match="no hash is published, so only its size and its form were checked"):
        assert download(remote(server, sha256=None), tmp_path).read_bytes() == BODY[::-1]
    assert server.asked == [None, "bytes=400000-"] and names(tmp_path) == ["CNRPark+EXT.csv"]


def test_without_hash_and_version_a_part_is_not_trusted(server, tmp_path):
    server.tag = None
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    with pytest.warns(UserWarning, match="no hash"):
        assert download(remote(server, "a.bin", None), tmp_path).read_bytes() == BODY
    assert server.asked == [None]


def test_an_answer_that_goes_on_elsewhere_is_not_taken(server, tmp_path):
    server.shift = 5
    (tmp_path / "CNRPark+EXT.csv.part").write_bytes(BODY[:1000])
    assert download(remote(server), tmp_path).read_bytes() == BODY
    assert server.asked == ["bytes=1000-", None]


def test_a_page_in_place_of_an_archive(server, tmp_path):
    server.body = b"<html>try later</html>"
    with pytest.raises(
        ValueError, match=r"a\.zip: .* is no archive, or cut off: it begins with b'<html>try later"
    ):
        download(remote(server, "a.zip", None), tmp_path)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a.txt", "text")
    server.body = packed.getvalue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # whose hash is known is not spoken of
        download(remote(server, "a.zip", hashlib.sha256(server.body).hexdigest()), tmp_path)


def test_the_deadline_is_for_all_of_it(server, tmp_path):
    server.pause = 0.2
    with pytest.raises(ConnectionError, match=r"the deadline is over.*run again"):
        download(remote(server), tmp_path, deadline=0.3)
    assert server.asked == [None]
    server.pause = 0.0
    assert download(remote(server), tmp_path).read_bytes() == BODY


def test_of_two_processes_one_downloads(server, tmp_path):
    server.pause = 0.05
    context = multiprocessing.get_context("fork")
    other = context.Process(target=download, args=(remote(server), tmp_path))
    other.start()
    assert download(remote(server), tmp_path).read_bytes() == BODY
    other.join()
    assert other.exitcode == 0 and server.asked == [None]
    with FileLock(tmp_path / ".b.csv.lock"), pytest.raises(ConnectionError, match="another process has been"):
        download(remote(server, "b.csv"), tmp_path, deadline=0.1)
