"""`Ledger`: all that the simulated platform remembers, in one SQLite file or in memory.

Every change gets a revision, and what is removed leaves a tombstone, so that an observer can ask
what happened since. Several processes may work on one file: a second driver, or `verbs`. An answer
that says OK is given after the commit, which survives kill -9 (COMP-SOCK-11, CREDU-STORE-01).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.conformance.bare.errors import CannotServe

MEMORY: Final = ":memory:"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resources (
  id TEXT PRIMARY KEY, uid TEXT NOT NULL, name TEXT NOT NULL, workspace TEXT NOT NULL,
  image TEXT NOT NULL, managed INTEGER NOT NULL, state TEXT NOT NULL, since REAL NOT NULL,
  due REAL, instance INTEGER NOT NULL, generation TEXT NOT NULL, rev INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS resources_rev ON resources (rev);
CREATE INDEX IF NOT EXISTS resources_due ON resources (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS workloads (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
  id TEXT PRIMARY KEY, at REAL NOT NULL, rev INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
  handle TEXT PRIMARY KEY, workspace TEXT NOT NULL, provider TEXT NOT NULL,
  provider_id TEXT NOT NULL, key TEXT NOT NULL, object_id TEXT NOT NULL, value TEXT NOT NULL,
  expires_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fetches (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""


class Ledger:
    """A connection to the file. Methods are short and do not wait."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._depth = 0
        try:
            self._open(path)
        except (OSError, sqlite3.Error) as error:
            raise CannotServe(f"cannot use the state file {path}: {error}") from None

    def _open(self, path: str) -> None:
        if path != MEMORY:
            self._make(Path(path))
        self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.executescript(_TABLES)
        with self.writing():
            # Made by the platform itself; sandbox credentials and handles are signed with it.
            self._db.execute(
                "INSERT OR IGNORE INTO meta VALUES ('key', ?)", (secrets.token_bytes(32),)
            )
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('rev', 0)")

    @staticmethod
    def _make(path: Path) -> None:
        """Make the file before SQLite does: values and environments are nobody else's business."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))

    def close(self) -> None:
        self._db.close()

    @property
    def shared(self) -> bool:
        """Whether another process could change it."""
        return self.path != MEMORY

    @property
    def key(self) -> bytes:
        return bytes(self._db.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()[0])

    @property
    def rev(self) -> int:
        """The number of the last change."""
        return int(self._db.execute("SELECT value FROM meta WHERE name = 'rev'").fetchone()[0])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One change: all of it, or nothing. A change within a change is part of it."""
        if self._depth:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    def next_rev(self) -> int:
        """Count one change; only inside `writing`."""
        self._db.execute("UPDATE meta SET value = value + 1 WHERE name = 'rev'")
        return self.rev

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return found

    def execute(self, query: str, *values: Any) -> int:
        """Change something; gives the number of rows that it met."""
        return self._db.execute(query, values).rowcount

    def count_fetch(self, name: str) -> None:
        """Count one token that was minted."""
        with self.writing():
            self.execute(
                "INSERT INTO fetches VALUES (?, 1)"
                " ON CONFLICT (name) DO UPDATE SET count = count + 1",
                name,
            )

    def fetches(self) -> dict[str, int]:
        """How many tokens were minted, by name."""
        return {row["name"]: row["count"] for row in self.rows("SELECT * FROM fetches")}

    def forget_tombstones(self, older_than: float) -> None:
        self.execute("DELETE FROM tombstones WHERE at < ?", time.time() - older_than)
