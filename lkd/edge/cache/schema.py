"""The tables of a store, and the transactions on them."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "answers.sqlite"
VERSION = 1
"""Version of the tables and of written answers. A store of another version is refused."""
_APPLICATION = 0x6C6B6463  # "lkdc", SQLite's mark of the program that owns a file
_WAIT = 30.0  # seconds for another writer

_TABLES = """
CREATE TABLE teachers (fingerprint TEXT PRIMARY KEY, name TEXT, since REAL, hits INTEGER DEFAULT 0,
    misses INTEGER DEFAULT 0, hit_bytes INTEGER DEFAULT 0, missed_bytes INTEGER DEFAULT 0);
CREATE TABLE answers (key BLOB PRIMARY KEY, teacher TEXT, used REAL, bytes INTEGER, mark BLOB, value BLOB);
CREATE INDEX by_use ON answers (used);
CREATE INDEX by_teacher ON answers (teacher, bytes);
CREATE TABLE total (bytes INTEGER);
INSERT INTO total VALUES (0);
CREATE TRIGGER added AFTER INSERT ON answers BEGIN UPDATE total SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER taken AFTER DELETE ON answers BEGIN UPDATE total SET bytes = bytes - OLD.bytes; END;
"""


def writable(folder: str) -> bool:
    """Returns whether a store can be written; if it is not, what is there can be read all the same."""
    path = Path(folder, FILE)
    return not path.exists() or (os.access(folder, os.W_OK | os.X_OK) and os.access(path, os.W_OK))


def connect(folder: str) -> sqlite3.Connection:
    """Opens a store, or makes one if none exists; one that cannot be written is opened for reading.

    Raises:
        ValueError: If the file is no cache, damaged, or of another version.
        NotADirectoryError: If the folder is a file.
        PermissionError: If none exists, and none can be made.
    """
    path = Path(folder, FILE)
    if not writable(folder):
        return _to_read(folder, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"cache={folder!r} is a file, or lies in one; give a folder.") from error
    except PermissionError as error:
        raise PermissionError(f"cache={folder!r} cannot be made: no permission.") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"cache={folder!r} cannot be written: no permission.")
    connection = _opened(path)
    with _explained(connection, folder, path):
        if not _empty(connection):
            _check(connection, path)  # before anything is changed: the file may be another program's
        _share(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA recursive_triggers = ON")  # REPLACE deletes, too
        with transaction(connection):
            if _empty(connection):
                _make(connection)
            _check(connection, path)
    return connection


def _to_read(folder: str, path: Path) -> sqlite3.Connection:
    """Opens a store for reading.

    SQLite cannot share a file without a log beside it, which it may not write: then it takes the file as it
    is. What is changed at that time has another checksum, and is not served.
    """
    log = path.with_name(f"{path.name}-shm").exists()
    connection = _opened(f"{path.absolute().as_uri()}?{'mode=ro' if log else 'immutable=1'}", uri=True)
    with _explained(connection, folder, path):
        _check(connection, path)
    return connection


def _opened(path: Path | str, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False, uri=uri)
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may be a stranger's
    return connection


def _share(connection: sqlite3.Connection) -> None:
    """Lets processes read and write at once.

    SQLite does not wait where two change the journal of a new file, but fails for one of them.
    """
    end = time.monotonic() + _WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def _explained(connection: sqlite3.Connection, folder: str, path: Path) -> Iterator[None]:
    """Closes a connection that cannot be used, with a sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(f"cache={folder!r} cannot be opened: {path} {error}.") from error
        raise ValueError(
            f"cache={folder!r}: {path} is no cache of lkd, or damaged ({error}); remove it or give another folder."
        ) from error
    except ValueError:
        connection.close()
        raise


def _empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]


def _make(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.replace("; END;", "~ END;").split(";\n"):
        connection.execute(statement.replace("~", ";"))
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuses another program's database, and a store of another version."""
    (whose,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # fails if the file is no database
    if whose != _APPLICATION:
        raise ValueError(f"{path} is another program's database; give another folder as cache.")
    if version != VERSION:
        raise ValueError(
            f"{path} is a cache of version {version}, and this lkd has version {VERSION}: give another folder as cache, or remove it."
        )


@contextlib.contextmanager
def at_once(connection: sqlite3.Connection) -> Iterator[None]:
    """Does not wait for another writer inside the block; what would have to fails."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_WAIT * 1000)}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Runs a block as one transaction: all of it is written, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write(
    connection: sqlite3.Connection,
    rows: Sequence[tuple[Any, ...]],
    teacher: tuple[str, str] | None,
    touched: Sequence[bytes],
    counts: Mapping[str, Sequence[int]],
    limit_mb: float | None,
) -> int:
    """Writes in one transaction: answers, their teacher, which answers were used, and the counts.

    Args:
        connection: Connection to the store.
        rows: Rows of the table `answers`.
        teacher: Fingerprint and name of the answers' teacher.
        touched: Keys that were read.
        counts: Hits, misses, and the bytes of both, by fingerprint.
        limit_mb: Most megabytes.

    Returns:
        Number of answers that were dropped at the limit.
    """
    now = time.time()
    with transaction(connection):
        if teacher is not None:
            connection.execute(
                "INSERT OR IGNORE INTO teachers (fingerprint, name, since) VALUES (?, ?, ?)", (*teacher, now)
            )
        connection.executemany("UPDATE answers SET used = ? WHERE key = ?", [(now, key) for key in touched])
        connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.executemany(
            "UPDATE teachers SET hits = hits + ?, misses = misses + ?, hit_bytes = hit_bytes + ?, "
            "missed_bytes = missed_bytes + ? WHERE fingerprint = ?",
            [(*each, fingerprint) for fingerprint, each in counts.items()],
        )
        return 0 if limit_mb is None or not rows else shrink(connection, limit_mb)


def shrink(connection: sqlite3.Connection, limit_mb: float) -> int:
    """Drops the least recently used answers until the rest is within a limit; returns how many it dropped."""
    (total,) = connection.execute("SELECT bytes FROM total").fetchone()
    dropped = 0
    while total > limit_mb * 1e6:
        oldest = connection.execute(
            "SELECT rowid, bytes FROM answers ORDER BY used, rowid LIMIT 100"
        ).fetchall()
        if not oldest:  # the sum in the file is wrong, as in one that was edited
            connection.execute("UPDATE total SET bytes = 0")
            break
        for row, size in oldest:
            if total <= limit_mb * 1e6:
                break
            connection.execute("DELETE FROM answers WHERE rowid = ?", (row,))
            total, dropped = total - size, dropped + 1
    return dropped


def drop(connection: sqlite3.Connection, teacher: str) -> int:
    """Drops all answers of a teacher; returns how many."""
    with transaction(connection):
        dropped = connection.execute("DELETE FROM answers WHERE teacher = ?", (teacher,)).rowcount
        connection.execute("DELETE FROM teachers WHERE fingerprint = ?", (teacher,))
    return dropped


def drop_keys(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Drops answers by key; returns how many."""
    with transaction(connection):
        return connection.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in keys]).rowcount


def stat(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """Returns a row for every teacher, the latest first."""
    query = (
        "SELECT fingerprint, name, COUNT(key), COALESCE(SUM(bytes), 0), hits, misses, hit_bytes, missed_bytes FROM teachers "
        "LEFT JOIN answers ON teacher = fingerprint GROUP BY fingerprint ORDER BY since DESC"
    )
    return [
        {
            "fingerprint": fingerprint,
            "name": name,
            "answers": answers,
            "bytes": size,
            "hits": hits,
            "misses": misses,
            "hit rate": hits / max(1, hits + misses),
            "byte hit rate": hit_bytes / max(1, hit_bytes + missed_bytes),
        }
        for fingerprint, name, answers, size, hits, misses, hit_bytes, missed_bytes in connection.execute(
            query
        )
    ]
