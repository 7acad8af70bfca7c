"""The store: limits, two writers at once, a killed writer, a full disk, files that are none of ours."""

import contextlib
import errno
import multiprocessing
import os
import pickle
import signal
import sqlite3
import tempfile
import threading
import time
from concurrent import futures

import pytest

from lkd.edge.cache import Store, schema
from lkd.edge.cache.store import ROW


def entries(count, size=1000, first=0):
    return {bytes([first + k]): bytes([k]) * size for k in range(count)}


def fill(folder, first):
    store = Store(folder)
    for number in range(20):
        store.put({f"{first} {number}".encode(): bytes(500)}, "f", "net")
    store.close()


def write_on(folder, pipe):
    store = Store(folder)
    for number in range(100_000):
        store.put({f"{number} {place}".encode(): bytes(2000) for place in range(8)}, "f", "net")
        pipe.send(number)


def test_what_was_put_is_found_by_another_store_and_counted(tmp_path):
    first = Store(tmp_path)
    first.put(entries(3), "f", "net")
    first.close()
    second = Store(tmp_path)
    assert second.get([b"\x00", b"\x02", b"\x09"], "f") == {b"\x00": b"\x00" * 1000, b"\x02": b"\x02" * 1000}
    (row,) = second.stat()
    assert (row["answers"], row["bytes"], row["hits"], row["misses"]) == (3, 3 * (1000 + ROW), 2, 1)
    assert row["byte hit rate"] == 2000 / 5000


def test_the_least_recently_used_are_dropped_at_the_limit_and_that_is_said_once(tmp_path, recwarn):
    store = Store(tmp_path, limit_mb=10 * (1000 + ROW) / 1e6)
    store.put(entries(8), "f", "net")
    store.get([bytes([k]) for k in (0, 1, 2)], "f")
    store.put(entries(5, first=100), "f", "net")
    store.put(entries(1, first=200), "f", "net")
    kept = store.get([bytes([k]) for k in range(256)], "f")
    assert len(kept) == 10 and {bytes([k]) for k in (0, 1, 2, 200)} <= set(kept)
    assert store.dropped == 4 and sum("limit_mb=0.012" in str(w.message) for w in recwarn) == 1


def test_a_limit_smaller_than_one_answer_is_refused(tmp_path):
    store = Store(tmp_path, limit_mb=0.001)
    with pytest.raises(ValueError, match=r"limit_mb=0\.001: one answer of the teacher net has 0\.002 MB"):
        store.put(entries(1, 2000), "f", "net")
    with pytest.raises(ValueError, match="limit_mb=0 must be above 0"):
        Store(tmp_path, limit_mb=0)


def test_two_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=fill, args=(str(tmp_path), name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(Store(tmp_path).get([f"{n} {k}".encode() for n in "ab" for k in range(20)], "f")) == 40


def test_many_open_a_new_store_at_once(tmp_path):
    with futures.ThreadPoolExecutor(8) as pool:
        for turn in range(30):  # without waiting, one of the first few fails
            start = threading.Barrier(8)

            def opened(folder=str(tmp_path / str(turn)), start=start):
                start.wait()
                schema.connect(folder).close()

            for done in [pool.submit(opened) for _ in range(8)]:
                done.result()


def test_a_reader_waits_for_no_writer(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put({b"a" * 16: b"answer"}, "t", "Net")
    monkeypatch.setattr("lkd.edge.cache.store.SECONDS", -1.0)  # every read writes its counts
    other = schema.connect(str(tmp_path))
    other.execute("BEGIN IMMEDIATE")  # as a prune of a large file does for long
    began = time.monotonic()
    for _ in range(3):
        assert store.get([b"a" * 16], "t") == {b"a" * 16: b"answer"}
    assert time.monotonic() - began < 5  # SQLite's own patience is 30 seconds
    other.execute("ROLLBACK")
    assert store.stat()[0]["hits"] == 3


def test_a_wrong_sum_in_the_file_ends(tmp_path):
    store = Store(tmp_path, limit_mb=1.0)
    store.put({b"a" * 16: b"answer"}, "t", "Net")
    store._connection.execute("UPDATE total SET bytes = 2000000000")
    store.put({b"b" * 16: b"answer"}, "t", "Net")
    store.put({b"c" * 16: b"answer"}, "t", "Net")
    assert store.get([b"c" * 16], "t")


def test_another_programs_database_is_left_as_it_was(tmp_path):
    path = tmp_path / schema.FILE
    with contextlib.closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE birds (name TEXT)")
        theirs.commit()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another program's database"):
        Store(tmp_path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [schema.FILE]


def test_a_fork_uses_a_connection_of_its_own(tmp_path):
    store = Store(tmp_path)
    store.put(entries(1), "f", "net")
    process = multiprocessing.get_context("fork").Process(
        target=store.put, args=(entries(1, first=9), "f", "net")
    )
    process.start()
    process.join()
    assert process.exitcode == 0 and len(store.get([b"\x00", b"\x09"], "f")) == 2


def test_a_killed_writer_leaves_what_was_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    writer = context.Process(target=write_on, args=(str(tmp_path), theirs))
    writer.start()
    done = [ours.recv() for _ in range(30)][-1]
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    store = Store(tmp_path)
    assert len(store.get([f"{n} {k}".encode() for n in range(done + 1) for k in range(8)], "f")) == 8 * (
        done + 1
    )
    assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    counts = store._connection.execute("SELECT COUNT(*), SUM(bytes) FROM answers").fetchone()
    assert counts[0] % 8 == 0  # a batch is there whole or not at all
    assert store._connection.execute("SELECT bytes FROM total").fetchone()[0] == counts[1]


def test_a_full_disk_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(entries(2), "f", "net")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(schema, "write", full)
    with pytest.warns(UserWarning, match=r"cannot be written \(.*No space left.*goes on") as said:
        store.put(entries(2, first=50), "f", "net")
        store.put(entries(2, first=60), "f", "net")
    assert len(said) == 1 and store.full
    monkeypatch.undo()
    assert set(store.get([b"\x00", b"\x32"], "f")) == {b"\x00"}


def test_sqlite_s_own_word_for_a_full_disk(tmp_path):
    store = Store(tmp_path)
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    store.put(entries(2), "f", "net")
    with pytest.warns(UserWarning, match="database or disk is full"):
        store.put(entries(20, 10_000, first=50), "f", "net")
    assert len(store.get([bytes([k]) for k in range(256)], "f")) == 2  # nothing by halves


def test_a_store_of_another_version_is_refused(tmp_path):
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / schema.FILE)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(ValueError, match=r"is a cache of version 7, and this lkd has version 1"):
        Store(tmp_path)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file, or lies in one"):
        Store(tmp_path / "file")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / schema.FILE).write_text("no database at all" * 100)
    with pytest.raises(ValueError, match="is no cache of lkd, or damaged"):
        Store(tmp_path / "a")
    (tmp_path / "b").mkdir()
    connection = sqlite3.connect(tmp_path / "b" / schema.FILE)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(ValueError, match="another program's database"):
        Store(tmp_path / "b")


def test_an_answer_that_has_changed_on_the_disk_is_not_served(tmp_path):
    store = Store(tmp_path)
    store.put(entries(2), "f", "net")
    store._connection.execute("UPDATE answers SET value = ? WHERE key = ?", (bytes(1000), b"\x01"))
    with pytest.warns(UserWarning, match="have changed on the disk"):
        assert set(store.get([b"\x00", b"\x01"], "f")) == {b"\x00"}


def test_a_copy_in_another_process_opens_the_file_itself(tmp_path):
    store = Store(tmp_path, limit_mb=3)
    store.put(entries(1), "f", "net")
    other = pickle.loads(pickle.dumps(store))
    assert other.limit_mb == 3 and set(other.get([b"\x00"], "f")) == {b"\x00"}


def test_pruning_by_size_and_by_teacher(tmp_path):
    store = Store(tmp_path)
    store.put(entries(4), "aa11", "old")
    store.put(entries(4, first=50), "bb22", "new")
    assert store.prune(teacher="aa") == 4 and [row["fingerprint"] for row in store.stat()] == ["bb22"]
    assert store.prune(limit_mb=2 * (1000 + ROW) / 1e6) == 2 and store.stat()[0]["answers"] == 2
    with pytest.raises(
        ValueError, match=r"teacher='cc' is the begin of no fingerprint in .*: there are bb22"
    ):
        store.prune(teacher="cc")


def test_the_file_is_not_larger_than_the_limit_though_answers_are_small(tmp_path):
    store = Store(tmp_path, limit_mb=1)
    for batch in range(50):
        store.put({f"{batch:8}{k:8}".encode(): os.urandom(120) for k in range(200)}, "f" * 32, "net")
    store.close()
    assert 0.8e6 < (tmp_path / schema.FILE).stat().st_size < 1.1e6


def test_answers_are_dropped_by_key(tmp_path):
    store = Store(tmp_path)
    store.put(entries(4), "f", "net")
    assert store.drop([b"\x01", b"\x63"]) == 1 and set(store.get(list(entries(4)), "f")) == {
        b"\x00",
        b"\x02",
        b"\x03",
    }
    assert store.drop([]) == 0


def damaged(folder):
    """A store of which all but the tables' names is noise."""
    store = Store(folder)
    store.put({f"{k}".encode(): bytes(1000) for k in range(200)}, "f", "net")
    store.close()
    size = (folder / schema.FILE).stat().st_size
    with (folder / schema.FILE).open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (size - 8192))
    return Store(folder)


def test_a_file_that_is_damaged_deep_inside_does_not_end_a_run(tmp_path):
    store = damaged(tmp_path)
    with pytest.warns(UserWarning, match=r"cannot be read \(database disk image is malformed\)"):
        assert store.others("net", "g") == 0 and store.get([b"1"], "f") == {}
    with pytest.warns(UserWarning, match=r"cannot be written \(database disk image is malformed\)"):
        store.put({b"x": b"y"}, "f", "net")


def test_who_asks_for_a_damaged_store_itself_gets_a_sentence(tmp_path):
    store = damaged(tmp_path)
    with pytest.raises(ValueError, match=r"answers\.sqlite is damaged \(.*malformed\); remove it"):
        store.prune(limit_mb=0.01)


def test_pruning_to_no_size_at_all_is_refused(tmp_path):
    for limit in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"limit_mb={limit} must be 0 or more"):
            Store(tmp_path).prune(limit_mb=limit)


def test_pruning_on_a_full_disk(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put(entries(4), "f", "net")

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "shrink", full)
    with pytest.raises(
        OSError, match=r"database or disk is full; free some space .* or remove .*answers\.sqlite"
    ):
        store.prune(limit_mb=0)
    monkeypatch.undo()
    reading = store._connection.execute(
        "SELECT key FROM answers"
    )  # as long as it is not at its end, no VACUUM
    reading.fetchone()
    with pytest.warns(UserWarning, match="has dropped 2 answers, but its file stays as large as it was"):
        assert store.prune(limit_mb=2 * (1000 + ROW) / 1e6) == 2


@pytest.fixture
def sealed(monkeypatch):
    """Makes a folder look as if it may not be written: for a superuser, all may be."""

    def seal(folder):
        real = os.access
        inside = [os.fspath(folder), os.fspath(folder / schema.FILE)]
        monkeypatch.setattr(
            os, "access", lambda path, mode: os.fspath(path) not in inside and real(path, mode)
        )
        folder.chmod(0o555)

    return seal


def test_a_store_without_permission_to_write_is_read(tmp_path, sealed):
    made = Store(tmp_path)
    made.put(entries(2), "f", "net")
    made.close()
    before = (tmp_path / schema.FILE).read_bytes()
    sealed(tmp_path)
    store = Store(tmp_path)
    assert store.read_only and len(store.get([b"\x00", b"\x01", b"\x09"], "f")) == 2
    with pytest.warns(
        UserWarning, match=r"may not be written \(no permission\): what it holds is served"
    ) as said:
        store.put(entries(2, first=50), "f", "net")
        store.put(entries(2, first=60), "f", "net")
    assert len(said) == 1 and store.drop([b"\x00"]) == 0
    assert store.stat()[0]["answers"] == 2 and store.others("net", "g") == 2
    with pytest.raises(PermissionError, match="cannot be pruned: no permission"):
        store.prune(limit_mb=0)
    store.close()
    assert (tmp_path / schema.FILE).read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_no_store_where_none_can_be_made(tmp_path, sealed):
    sealed(tmp_path)
    with pytest.raises(PermissionError, match="cannot be written: no permission"):
        Store(tmp_path)


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only a superuser becomes another user"
)
def test_another_user_reads_a_store_that_somebody_writes():
    """The one writes, with SQLite's log beside the file; the other may not write anything there."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        writer = Store(folder)
        writer.put(entries(2), "f", "net")
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        for _ in range(2):  # with the log, and without
            reader = context.Process(target=_read_as_nobody, args=(folder, theirs))
            reader.start()
            assert ours.poll(30) and ours.recv() == 2
            reader.join()
            if writer is not None:
                writer.close()
                writer = None


def _read_as_nobody(folder, pipe):
    os.setuid(65534)
    pipe.send(len(Store(folder).get([b"\x00", b"\x01"], "f")))
