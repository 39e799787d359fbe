"""`State`: texts by kind and key in SQLite: a file that several processes may share, or memory.

Everything here blocks, for microseconds without a file, and raises `Unavailable` if the file cannot
be used.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from openshell_drivers import ConfigError, Unavailable

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS kept (kind TEXT, key TEXT, text TEXT, PRIMARY KEY (kind, key))"
)
_BUSY_SECONDS: Final = 5.0


class State:
    """What is written is on disk when the method returns."""

    def __init__(self, database: sqlite3.Connection, *, shared: bool) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._seen: object = None
        self.shared = shared
        """Whether other processes may read and write it, too."""

    def all(self, kind: str) -> dict[str, str]:
        """Give the texts of a kind by key."""
        statement = "SELECT key, text FROM kept WHERE kind = ? ORDER BY key"
        with self._lock, _failing():
            return dict(self._database.execute(statement, [kind]))

    def get(self, kind: str, key: str) -> str | None:
        """Give one text."""
        with self._lock, _failing():
            return _get(self._database, kind, key)

    def put(self, kind: str, key: str, text: str) -> None:
        """Keep a text, in place of the one before."""
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", [kind, key, text])

    def add(self, kind: str, key: str, text: str) -> bool:
        """Keep a text if there is none; False if there is."""
        with self._open() as database:
            statement = "INSERT OR IGNORE INTO kept VALUES (?, ?, ?)"
            return database.execute(statement, [kind, key, text]).rowcount == 1

    def change(self, kind: str, key: str, step: Callable[[str], str]) -> str | None:
        """Replace a text by what becomes of it; None if there is none."""
        with self._open() as database:
            before = _get(database, kind, key)
            if before is None:
                return None
            after = step(before)
            if after != before:
                database.execute("REPLACE INTO kept VALUES (?, ?, ?)", [kind, key, after])
            return after

    def drop(self, kind: str, key: str) -> bool:
        """Forget a text; False if there is none."""
        with self._open() as database:
            statement = "DELETE FROM kept WHERE kind = ? AND key = ?"
            return database.execute(statement, [kind, key]).rowcount == 1

    def changed(self) -> bool:
        """Whether somebody else has written since this was last asked."""
        with self._lock, _failing():
            (version,) = self._database.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(before != version)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Write as a whole, or not at all."""
        with self._lock, _failing(), self._database as database:
            database.execute("BEGIN IMMEDIATE")
            yield database


def _get(database: sqlite3.Connection, kind: str, key: str) -> str | None:
    statement = "SELECT text FROM kept WHERE kind = ? AND key = ?"
    row = database.execute(statement, [kind, key]).fetchone()
    return None if row is None else str(row[0])


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error:
        raise Unavailable("the state file cannot be used") from None


@contextmanager
def open_state(path: Path | None) -> Iterator[State]:
    """Open the file, made with mode 0600 if it is not there; None keeps all in memory.

    Raises `ConfigError` if it cannot be used.
    """
    try:
        if path is not None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        database = sqlite3.connect(
            path or ":memory:", timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from None
    try:
        try:
            database.execute("PRAGMA journal_mode = WAL")  # who reads waits for nobody who writes
            database.execute("PRAGMA synchronous = FULL")
            database.execute(_TABLE)
        except sqlite3.Error as error:
            raise _unusable(path, error) from None
        yield State(database, shared=path is not None)
    finally:
        database.close()


def _unusable(path: Path | None, error: Exception) -> ConfigError:
    return ConfigError(f"state: {type(error).__name__} with {str(path)!r}")
