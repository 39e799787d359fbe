"""`State`: texts by kind and key, in memory, and in a SQLite file if there is one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import anyio
import anyio.to_thread

from openshell_drivers import ConfigError, Unavailable

_TABLE = "CREATE TABLE IF NOT EXISTS kept (kind TEXT, key TEXT, text TEXT, PRIMARY KEY (kind, key))"


class State:
    """What is read comes from memory; what is written is on disk when `put` returns."""

    def __init__(self, file: sqlite3.Connection | None) -> None:
        self._file = file
        self._lock = anyio.Lock()
        self._kept: dict[str, dict[str, str]] = {}

    def load(self) -> None:
        """Read the file."""
        if self._file is not None:
            for kind, key, text in self._file.execute("SELECT kind, key, text FROM kept"):
                self._kept.setdefault(kind, {})[key] = text

    def all(self, kind: str) -> Mapping[str, str]:
        """Give the texts of a kind by key."""
        return MappingProxyType(self._kept.get(kind, {}))

    async def put(self, kind: str, key: str, text: str) -> None:
        """Keep a text. Raises `Unavailable` if it cannot be written."""
        await self._write("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", kind, key, text)
        self._kept.setdefault(kind, {})[key] = text

    async def drop(self, kind: str, key: str) -> None:
        """Forget a text."""
        await self._write("DELETE FROM kept WHERE kind = ? AND key = ?", kind, key)
        self._kept.get(kind, {}).pop(key, None)

    async def _write(self, statement: str, *values: str) -> None:
        if self._file is None:
            return
        file = self._file

        def write() -> None:
            with file:
                file.execute(statement, values)

        async with self._lock:  # one at a time, and each to its end
            with anyio.CancelScope(shield=True):
                try:
                    await anyio.to_thread.run_sync(write)
                except sqlite3.Error:
                    raise Unavailable("the state file cannot be written") from None


@asynccontextmanager
async def open_state(path: Path | None) -> AsyncIterator[State]:
    """Open the file, made with mode 0600 if it is not there; None keeps all in memory.

    Raises `ConfigError` if it cannot be used.
    """
    if path is None:
        yield State(None)
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        file = sqlite3.connect(path, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"state: {type(error).__name__} with {str(path)!r}") from None
    try:
        try:
            file.execute(_TABLE)
            state = State(file)
            state.load()
        except sqlite3.Error as error:
            raise ConfigError(f"state: {type(error).__name__} with {str(path)!r}") from None
        yield state
    finally:
        file.close()
