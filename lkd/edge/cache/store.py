"""`Store`: answers of teachers in one SQLite file that several processes may read and write at once."""

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.checks import expect
from lkd.edge.cache import schema

FLUSH, SECONDS = 4096, 30.0  # reads, and seconds, until the file is told which answers were used
_MANY = 500  # keys in one query
ROW = 200
"""Bytes that an answer takes in the file beside its own: key, fingerprint, indices."""


class Store:
    """Bytes by key, each of one teacher; the least recently used are dropped at a size limit.

    SQLite keeps the file intact: if a writer is killed, what it has not committed is lost and nothing else.
    Readers never wait. Nothing is pickled. A full disk ends writing, with one warning, and nothing else. A
    store that may not be written serves what it has; what the teacher says beyond it is not kept, with one
    warning.

    The library diskcache would provide limit and counts, but has had no release since 2023 and unpickles what
    it finds (CVE-2025-69872, without a fix).

    Args:
        folder: Folder of `answers.sqlite`, made if need be. On a local disk: SQLite's write-ahead log is not
            for network file systems.
        limit_mb: Most megabytes (10^6) of answers, each with the 200 bytes that the file needs for it; None
            for no limit. During writes, a log of some megabytes lies beside the file.

    Raises:
        ValueError: If the limit is not above 0, or if the file is no cache, damaged or of another version.
        NotADirectoryError: If the folder is a file.
        PermissionError: If there is none, and none can be made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     store = Store(folder)
        ...     store.put({b"key": b"answer"}, "fingerprint", "ResNet")
        ...     found = store.get([b"key", b"other"], "fingerprint")
        ...     store.close()
        >>> found
        {b'key': b'answer'}
    """

    def __init__(self, folder: str | os.PathLike[str], limit_mb: float | None = None) -> None:
        expect(limit_mb=limit_mb, gt=0, none="no limit")
        self.folder, self.limit_mb = os.fspath(folder), limit_mb
        self.full = False
        """Whether writing has ended."""
        self.dropped = 0
        """Answers that this process has dropped at the limit."""
        self._touched: set[bytes] = set()
        self._counts: dict[str, list[int]] = {}
        self._told, self._said = time.monotonic(), set[str]()
        self._lock = threading.RLock()
        self.read_only = not schema.writable(self.folder)
        """Whether there was no permission to write when the store was opened."""
        self._open()

    def __reduce__(self) -> Any:  # a copy in another process opens the file itself
        return Store, (self.folder, self.limit_mb)

    def get(self, keys: Sequence[bytes], teacher: str) -> dict[bytes, bytes]:
        """Returns the answers that exist.

        Args:
            keys: Keys to look up.
            teacher: Fingerprint of the teacher whose hits and misses are counted.
        """
        found: dict[bytes, bytes] = {}
        with self._lock:
            try:
                for start in range(0, len(keys), _MANY):
                    part = keys[start : start + _MANY]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, value, mark FROM answers WHERE key IN ({marks})"
                    for key, value, mark in self._connection.execute(query, part):
                        if xxhash.xxh3_64_digest(value) == mark:
                            found[key] = value
                        else:
                            self._say(
                                "holds answers that have changed on the disk; the teacher is asked instead"
                            )
            except (sqlite3.Error, OSError) as error:
                self._unread(error)
            counts = self._counts.setdefault(teacher, [0, 0, 0, 0])
            counts[0] += sum(key in found for key in keys)
            counts[1] += sum(key not in found for key in keys)
            counts[2] += sum(len(found[key]) for key in keys if key in found)
            self._touched.update(found)
            if len(self._touched) > FLUSH or time.monotonic() > self._told + SECONDS:
                with schema.at_once(self._connection):  # a reader waits for nobody
                    self.flush()
        return found

    def put(self, entries: Mapping[bytes, bytes], teacher: str, name: str) -> None:
        """Writes answers, all of them or none, and drops the least recently used at the limit.

        Args:
            entries: Answers by key; existing ones are replaced.
            teacher: The fingerprint of the teacher.
            name: Name of the teacher, for reports.

        Raises:
            ValueError: If one answer is larger than the limit.
        """
        largest = max(map(len, entries.values()), default=0)
        if self.limit_mb is not None and largest + ROW > self.limit_mb * 1e6:
            raise ValueError(
                f"limit_mb={self.limit_mb}: one answer of the teacher {name} has {largest / 1e6:.3g} MB; give a larger limit."
            )
        with self._lock:
            counts = self._counts.setdefault(teacher, [0, 0, 0, 0])
            counts[3] += sum(map(len, entries.values()))
            now = time.time()
            rows = [(k, teacher, now, len(v) + ROW, xxhash.xxh3_64_digest(v), v) for k, v in entries.items()]
            self._write(rows, (teacher, name))

    def others(self, name: str, teacher: str) -> int:
        """Counts answers of other states of a teacher of this name, if there are none of this state."""
        query = "SELECT COUNT(*) FROM answers JOIN teachers ON teacher = fingerprint WHERE name = ?"
        try:
            with self._lock:
                own = self._connection.execute("SELECT 1 FROM answers WHERE teacher = ? LIMIT 1", (teacher,))
                return 0 if own.fetchone() else int(self._connection.execute(query, (name,)).fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            self._unread(error)
            return 0

    def drop(self, keys: Sequence[bytes]) -> int:
        """Drops answers by key; returns how many."""
        if not keys or self.read_only:
            return 0
        try:
            with self._lock:
                return schema.drop_keys(self._connection, keys)
        except (sqlite3.Error, OSError) as error:
            self._say(f"keeps answers that are not the teacher's ({error}); prune it before it is used again")
            return 0

    def stat(self) -> list[dict[str, Any]]:
        """Returns each teacher's fingerprint, name, answers, bytes, hits, misses and both hit rates."""
        self.flush()
        with self._lock, self._sentences():
            return schema.stat(self._connection)

    def prune(self, teacher: str | None = None, limit_mb: float | None = None) -> int:
        """Drops answers, and frees their space.

        Args:
            teacher: Beginning of the fingerprint of a teacher, whose answers are all dropped.
            limit_mb: Most megabytes that stay; the least recently used are dropped.

        Returns:
            The number of dropped answers.

        Raises:
            ValueError: If not exactly one fingerprint begins so, the limit is negative, or the file is
                damaged.
            OSError: If the disk is full, or another process holds the file.
            PermissionError: If the store may not be written.
        """
        expect(limit_mb=limit_mb, ge=0, none="no limit")
        if self.read_only:
            raise PermissionError(
                f"cache={self.folder!r} cannot be pruned: no permission to write {self.file}."
            )
        dropped = 0
        self.flush()
        if teacher is not None:
            known = [str(row["fingerprint"]) for row in self.stat()]
            meant = [mark for mark in known if mark.startswith(teacher)]
            if len(meant) != 1:
                shown = ", ".join(mark[:8] for mark in known) or "none"
                raise ValueError(
                    f"teacher={teacher!r} is the begin of {len(meant) or 'no'} fingerprint{'s' if meant else ''} in {self.folder}: there are {shown}."
                )
            with self._lock, self._sentences():
                dropped += schema.drop(self._connection, meant[0])
        if limit_mb is not None:
            with self._lock, self._sentences(), schema.transaction(self._connection):
                dropped += schema.shrink(self._connection, limit_mb)
        try:
            with self._lock:
                self._connection.execute("VACUUM")
        except sqlite3.OperationalError as error:  # SQLite writes a copy of the file beside it
            self._say(f"has dropped {dropped} answers, but its file stays as large as it was ({error})")
        return dropped

    def flush(self) -> None:
        """Writes to the file which answers were used, and how often there was one."""
        with self._lock:
            self._write([], None)

    def close(self) -> None:
        """Writes what is left to write, and closes the file."""
        with self._lock:
            self.flush()
            self._finalizer.detach()
            self._connections[os.getpid()].close()
            del self._connections[os.getpid()]

    @property
    def file(self) -> Path:
        """Path of the database file."""
        return Path(self.folder, schema.FILE)

    @property
    def _connection(self) -> sqlite3.Connection:
        if os.getpid() not in self._connections:  # a fork may not share SQLite's connections
            self._touched, self._counts = set(), {}
            self._connections[os.getpid()] = schema.connect(self.folder)
        return self._connections[os.getpid()]

    def _open(self) -> None:
        self._connections = {os.getpid(): schema.connect(self.folder)}
        self._finalizer = weakref.finalize(
            self, _last_words, os.getpid(), self.folder, self._touched, self._counts
        )

    def _write(self, rows: list[tuple[Any, ...]], teacher: tuple[str, str] | None) -> None:
        touched, counts = list(self._touched), dict(self._counts)
        if self.read_only:
            if rows:
                self._say(
                    "may not be written (no permission): what it holds is served, and what the teacher says beyond it is not kept"
                )
        elif not self.full:
            try:
                dropped = schema.write(self._connection, rows, teacher, touched, counts, self.limit_mb)
            except (sqlite3.Error, OSError) as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                    if rows:
                        self._say("is held by another process; what the teacher says meanwhile is not kept")
                    self._touched.clear()  # they count as unused this time; hits and misses are told later
                    self._told = time.monotonic()
                    return
                self.full = True
                self._say(
                    f"cannot be written ({error}); the run goes on, and what the teacher says from now on is not kept"
                )
            else:
                if dropped:
                    self._say(
                        f"has reached limit_mb={self.limit_mb}: the answers that were not used for longest are dropped. Where an epoch has "
                        "more than the limit, they are dropped before they are asked for again: give a larger one"
                    )
                self.dropped += dropped
        self._touched.clear()
        self._counts.clear()
        self._told = time.monotonic()

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Explains SQLite's errors if the user called the store directly."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(
                f"cache={self.folder!r}: {error}; free some space or wait for other processes, or remove {self.file}."
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"cache={self.folder!r}: {self.file} is damaged ({error}); remove it or give another folder."
            ) from error

    def _unread(self, error: Exception) -> None:
        self._say(f"cannot be read ({error}); the teacher is asked instead")

    def _say(self, what: str) -> None:
        """Warns once for each kind of news."""
        if (kind := what[:15]) not in self._said:
            self._said.add(kind)
            rank_zero_warn(f"The cache in {self.folder} {what}.")


def _last_words(pid: int, folder: str, touched: set[bytes], counts: dict[str, list[int]]) -> None:
    """Writes what a process still has to record when a store ends without being closed."""
    if pid == os.getpid() and (touched or counts) and Path(folder, schema.FILE).is_file():
        try:
            connection = schema.connect(folder)
            schema.write(connection, [], None, list(touched), dict(counts), None)
            connection.close()
        except (sqlite3.Error, OSError, ValueError):
            pass  # counts of use are no reason to fail
